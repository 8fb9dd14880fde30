// What a client is told about an export is what the image can do (I9).

import BlockBackend
import NBDProtocol
import NBDServerCore
import Testing

@Suite struct ExportTableTests {
  static let capabilities: [(Capabilities, TransmissionFlags)] = [
    (.trim, .sendTrim), (.fastZero, .sendFastZero), (.cache, .sendCache),
  ]

  /// Every subset of what a backend can do, writable and not.
  @Test func flagsFollowTheCapabilities() {
    for subset in 0..<8 {
      for (isReadOnly, isRotational) in [(false, false), (true, false), (false, true)] {
        var capabilities: Capabilities = .writable
        var optional: TransmissionFlags = []
        for (bit, (capability, flag)) in Self.capabilities.enumerated() where subset & 1 << bit != 0 {
          capabilities.insert(capability)
          optional.insert(flag)
        }
        let entry = ExportTable.Entry.test(
          isReadOnly: isReadOnly, geometry: Geometry(sizeBytes: 4096, isRotational: isRotational),
          capabilities: capabilities)
        var expected: TransmissionFlags = [.hasFlags, .sendFlush, .sendFUA, .canMultiConn]
        if isReadOnly {
          expected.formUnion([.readOnly, optional.intersection(.sendCache)])
        } else {
          expected.formUnion([.sendWriteZeroes, optional])
        }
        if isRotational { expected.insert(.rotational) }
        #expect(entry.transmissionFlags == expected, "capabilities \(capabilities) read-only \(isReadOnly)")
      }
    }
  }

  /// Two exports of one image, both writable: multi-conn clients see the same.
  @Test func exportsOfOneImageTellTheSame() throws {
    let table = ExportTable([.test("a", aliases: [""]), .test("b", aliases: [])])
    let (a, b) = (try #require(table.find("a")), try #require(table.find("b")))
    #expect(a.flags == b.flags)
    #expect(a.id != b.id)
  }

  @Test func aliasesLeadToTheCanonicalName() throws {
    let table = ExportTable([.test("a", aliases: ["", "x"]), .test("b", aliases: ["b"])])
    for name in ["a", "", "x"] {
      let export = try #require(table.find(name))
      #expect(export.name == "a")
      #expect(export.id == table.find("a")?.id)
    }
    #expect(table.find("b")?.name == "b")
    #expect(table.find("A") == nil)
    #expect(table.list.map(\.name) == ["a", "b"])
  }

  @Test func sizesAreThoseOfTheGeometry() throws {
    let geometry = Geometry(sizeBytes: 3 << 20, blockBytesMin: 512, blockBytesPreferred: 65536)
    let export = try #require(ExportTable([.test(geometry: geometry)]).find(""))
    #expect(export.sizeBytes == 3 << 20)
    #expect(export.blockBytesMin == 512)
    #expect(export.blockBytesPreferred == 65536)
    #expect(export.payloadBytesMax == 32 << 20)
    #expect(export.offersBlockStatus)
  }
}
