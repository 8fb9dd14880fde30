// Images that are opened, closed and opened again in one process.

import BlockBackend
import DaemonHarness
import Faults
import Foundation
import HoldfastServer
import Logging
import NBDServerCore
import Testing

@testable import holdfast

@Suite struct OpenImagesTests {
  private let images = OpenImages(
    lanes: Lanes(workersAwakeMax: 4), guards: .allStand, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  )

  private func open(_ path: String, faults: [String] = []) throws -> OpenedExport {
    let rules = try faults.map { text in try FaultRule(parsing: text) }
    return try #require(
      try images.open([ExportPlan(name: "a", path: path, faults: rules)], defaultExport: nil).first)
  }

  /// Opens the image; its last sync fails, and it is let go.
  private func failASync(of path: String) throws {
    weak var image: Image?
    do {
      let opened = try open(path, faults: ["sync:error=EIO"])
      image = opened.export.image
      #expect(throws: BackendError.self) { try opened.export.image.finalSync() }
    }
    #expect(eventually(seconds: 10) { image == nil })
  }

  /// The kernel told of the error once, so a FLUSH of whoever opens the file next would succeed (I7).
  @Test func theErrorOfAFailedSyncOutlivesItsImage() throws {
    try withScratch { scratch in
      let path = try scratch.makeImage("a.img", sizeBytes: 1 << 20)
      try failASync(of: path)
      // Of another path, too: it is the same file.
      let alias = scratch.file("alias.img")
      try FileManager.default.linkItem(atPath: path, toPath: alias)
      let again = try open(alias).export.image
      #expect(again.latchedError == .ioError)
      #expect(try again.clearError() == .ioError)
      try again.flush()
    }
  }

  /// Though it has the inode number of one whose sync failed.
  @Test func aFileThatIsMadeHasNoPast() throws {
    try withScratch { scratch in
      let path = try scratch.makeImage("a.img", sizeBytes: 1 << 20)
      let number = try inode(path)
      try failASync(of: path)
      try FileManager.default.removeItem(atPath: path)
      // Others make files here as well, and may get the number first.
      for _ in 0..<100 {
        let plan = ExportPlan(name: "a", path: path, createdSize: ByteSize(bytes: 1 << 20))
        let made = try #require(try images.open([plan], defaultExport: nil).first)
        #expect(made.isNew && made.export.image.latchedError == nil)
        if try inode(path) == number { return }
        try FileManager.default.removeItem(atPath: path)
      }
      print("aFileThatIsMadeHasNoPast: no inode number was used again here, so it could not fail")
    }
  }

  private func inode(_ path: String) throws -> Int? {
    try FileManager.default.attributesOfItem(atPath: path)[.systemFileNumber] as? Int
  }

  /// An image that clients use is out of sight, its export gone: nothing is made in its place.
  @Test func nothingIsMadeWhereAnImageIsInUse() throws {
    try withScratch { scratch in
      let path = try scratch.makeImage("a.img", sizeBytes: 1 << 20)
      let inUse = try open(path)
      try FileManager.default.moveItem(atPath: path, toPath: scratch.file("away.img"))
      let plan = ExportPlan(name: "b", path: path, createdSize: ByteSize(bytes: 1 << 20))
      #expect(throws: CommandFailure.self) { _ = try images.open([plan], defaultExport: nil) }
      #expect(!exists(path))
      withExtendedLifetime(inUse) {}
    }
  }
}
