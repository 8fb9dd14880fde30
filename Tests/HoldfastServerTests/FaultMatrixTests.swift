// The fault matrix: every kind of call x every fault x every n until a run without one, on each kind of image and on both
// lanes. The counts are printed.

import BlockBackend
import DaemonHarness
import Foundation
import NBDClient
import SparseFile
import SystemPackage
import Testing

/// An image, and the calls that it is made to refuse, so that the calls behind them are reached.
struct MatrixPlace: Sendable, CustomTestStringConvertible {
  var name: String
  var directory = "/tmp"
  var isBlockDevice = false
  var refused: [FileCall.Kind] = []
  /// Everything runs on the slow lane.
  var isRemote = false
  /// The calls that the script must lead to there.
  var kinds: Set<FileCall.Kind>

  var testDescription: String { name }

  private static let everywhere: Set<FileCall.Kind> = [.read, .write, .sync, .willNeed]

  static let all: [MatrixPlace] = [
    MatrixPlace(
      name: "file", kinds: everywhere.union([.readCached, .punchHole, .zeroRange, .seekData, .seekHole])),
    MatrixPlace(
      name: "file, slow lane", isRemote: true, kinds: everywhere.union([.punchHole, .zeroRange, .seekData, .seekHole])),
    MatrixPlace(
      name: "file without fallocate", refused: [.punchHole, .zeroRange], kinds: everywhere.union([.readCached])),
    MatrixPlace(
      name: "file in memory", directory: "/dev/shm", kinds: everywhere.union([.punchHole, .allocate, .seekData])),
    MatrixPlace(
      name: "block device", isBlockDevice: true, kinds: everywhere.union([.readCached, .punchHole, .zeroRange])),
    MatrixPlace(
      name: "block device without punching", isBlockDevice: true, refused: [.punchHole],
      kinds: everywhere.union([.zeroRange, .discard])),
  ]

  /// Makes a fresh image.
  func withImage(_ body: (_ path: String) throws -> Void) throws {
    try withScratch { scratch in
      if isBlockDevice {
        let backing = try scratch.makeImage(sizeBytes: UInt64(MatrixStep.imageBytes / 512 * 512 + 512))
        return try body(try scratch.attachLoop(backing))
      }
      let path = "\(directory)/holdfast-matrix-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: path) }
      guard FileManager.default.createFile(atPath: path, contents: nil) else { throw HarnessError("no \(path)") }
      try FileHandle(forWritingTo: URL(filePath: path)).truncate(atOffset: UInt64(MatrixStep.imageBytes))
      try body(path)
    }
  }
}

/// Loop devices need root and the loop driver.
private let hasLoopDevices = geteuid() == 0 && exists("/dev/loop-control")

@Suite struct FaultMatrixTests {
  @Test(arguments: MatrixPlace.all.filter { hasLoopDevices || !$0.isBlockDevice })
  func noFaultMakesAReplyLie(on place: MatrixPlace) throws {
    var runs = 0
    var hits: [FileCall.Kind: Int] = [:]
    try place.withImage { path in
      for kind in FileCall.Kind.allCases where kind != .pause {
        // What was refused is remembered: a new server asks again.
        var session = try Session(place, path)
        for fault in MatrixFault.allCases {
          var nth = 1
          while true {
            session.hook.arm(fault, kind, nth: nth)
            try session.client.work()
            runs += 1
            let wasHit = session.hook.disarm()
            let context: Comment = "\(place.name): \(fault) in call \(nth) of \(kind)"
            #expect(session.client.lies.isEmpty, context)
            #expect(try session.client.isAlive(), context)
            guard wasHit else {
              #expect(session.client.errors.isEmpty, context)
              break
            }
            hits[kind, default: 0] += 1
            try expectErrors(fault.error(in: kind), kind, &session, place, path, context)
            nth += 1
          }
        }
        try session.client.leave()
      }
    }
    for kind in place.kinds { #expect(hits[kind, default: 0] > 0, "\(place.name): the script has led to no \(kind)") }
    let counts = hits.map { "\($0.key) \($0.value)" }.sorted().joined(separator: ", ")
    print("fault matrix, \(place.name): \(runs) runs of \(MatrixStep.script.count) requests, faults met: \(counts)")
  }

  /// A failed sync spoils the server for good, so the next run needs a fresh one.
  private func expectErrors(
    _ wanted: UInt32?, _ kind: FileCall.Kind, _ session: inout Session, _ place: MatrixPlace, _ path: String,
    _ context: Comment
  ) throws {
    let errors = session.client.errors
    guard let wanted else {
      #expect(errors.isEmpty, context)
      return
    }
    guard kind == .sync else {
      // Where FIEMAP has been asked, SEEK_DATA gives a second opinion, and without it a third is sought.
      #expect(errors == [wanted] || kind == .seekData && errors.isEmpty, context)
      return
    }
    #expect(!errors.isEmpty && errors.allSatisfy { $0 == wanted }, context)
    session.client.noteFailedSync()
    try session.client.work()
    #expect(session.client.lies.isEmpty, context)
    #expect(session.client.errors.count == MatrixStep.script.count { $0.isSync }, context)
    try session.client.leave()
    session = try Session(place, path)
  }

  /// A server on the image at `path`, and its client.
  private struct Session {
    let hook: OneFault
    let server: InProcessServer
    let client: MatrixClient

    init(_ place: MatrixPlace, _ path: String) throws {
      hook = OneFault(refusing: place.refused)
      let file = try Session.open(path, place, hook)
      server = try InProcessServer(file)
      client = try MatrixClient(try server.client(), truth: path)
    }

    /// A block device belongs to the server before it for another moment.
    private static func open(_ path: String, _ place: MatrixPlace, _ hook: OneFault) throws -> ImageFile {
      var file: ImageFile?
      _ = eventually(seconds: 5) {
        file = try? ImageFile.open(path: FilePath(path), isFaulty: place.isRemote, hook: hook.hook)
        return file != nil
      }
      guard let file else { throw HarnessError("cannot open \(path)") }
      return file
    }
  }
}
