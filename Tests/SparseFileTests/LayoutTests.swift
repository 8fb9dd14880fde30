// Holes and data, and what is made of senseless answers.

import BlockBackend
import SparseFile
import SystemPackage
import Testing

private let mib: UInt64 = 1 << 20

/// I3: holes are decided by SEEK_DATA and SEEK_HOLE; what they leave open is data.
@Suite struct LayoutTests {
  @Test func holesAndDataAreTold() throws {
    try withFile(sizeBytes: 4 * mib + 5) { path in
      let image = try ImageFile.open(path: path)
      try image.write(bytes(8192), at: mib)
      #expect(
        try image.extents(of: 100..<4 * mib + 5, extentsMax: 10) == [
          Extent(lengthBytes: mib - 100, kind: .hole), Extent(lengthBytes: 8192, kind: .data),
          Extent(lengthBytes: 3 * mib - 8192 + 5, kind: .hole),
        ])
      #expect(
        try image.extents(of: mib + 1..<mib + 3, extentsMax: 10) == [Extent(lengthBytes: 2, kind: .data)])
      #expect(
        try image.extents(of: 0..<2 * mib, extentsMax: 1) == [Extent(lengthBytes: mib, kind: .hole)])
    }
  }

  @Test func endOfAFileCutByOthersIsAnErrorAndNotAHole() throws {
    try withFile(sizeBytes: 4 * mib) { path in
      let image = try ImageFile.open(path: path)
      try setSize(path, mib)
      #expect(
        try image.extents(of: 0..<4 * mib, extentsMax: 10) == [Extent(lengthBytes: mib, kind: .hole)])
      #expect(throws: BackendError(.ioError, at: mib)) { try image.extents(of: mib..<2 * mib, extentsMax: 10) }
    }
  }

  /// The map may change between two seeks; no answer may lead to a hole that was not told, or beyond the range.
  @Test func senselessAnswersMeanData() throws {
    let nonsense: [(data: FileCallAnswer, hole: FileCallAnswer)] = [
      (.pretend(4096), .pretend(4096)),  // the data is gone by the second call
      (.pretend(4096), .pretend(0)),
      (.pretend(0), .pretend(8192)),
      (.pretend(4096), .fail(.noSuchAddressOrDevice)),
      (.pretend(4096), .fail(.ioError)),
      (.fail(.interrupted), .perform),
      (.fail(.invalidArgument), .perform),
      (.fail(.notSupported), .perform),
    ]
    for answer in nonsense {
      try withFile(sizeBytes: mib) { path in
        let script = Script([.seekData: [answer.data], .seekHole: [answer.hole]])
        let image = try ImageFile.open(path: path, hook: script.hook)
        let extents = try image.extents(of: 4096..<65_536, extentsMax: 10)
        #expect(extents == [Extent(lengthBytes: 61_440, kind: .data)], "\(answer)")
      }
    }
  }

  @Test func answersBeyondTheRangeAreCut() throws {
    try withFile(sizeBytes: mib) { path in
      let script = Script([.seekData: [.pretend(1 << 50), .pretend(0)], .seekHole: [.pretend(1 << 50)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      #expect(try image.extents(of: 4096..<8192, extentsMax: 2) == [Extent(lengthBytes: 4096, kind: .hole)])
      #expect(try image.extents(of: 0..<8192, extentsMax: 2) == [Extent(lengthBytes: 8192, kind: .data)])
    }
  }

  @Test func mediumErrorIsReportedAndRefusalIsRemembered() throws {
    try withFile(sizeBytes: mib) { path in
      let script = Script([.seekData: [.fail(.ioError), .fail(.notSupported)]])
      let image = try ImageFile.open(path: path, hook: script.hook)
      #expect(throws: BackendError(.ioError, at: 7)) { try image.extents(of: 7..<100, extentsMax: 2) }
      for _ in 0..<3 {
        #expect(try image.extents(of: 7..<100, extentsMax: 2) == [Extent(lengthBytes: 93, kind: .data)])
      }
      #expect(script.calls(.seekData).count == 2)
    }
  }
}
