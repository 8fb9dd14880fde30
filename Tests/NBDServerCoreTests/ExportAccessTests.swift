// Who may have an export, and which part of an image in which steps.

import BlockBackend
import NBDProtocol
import NBDServerCore
import Testing

@Suite struct AccessRuleTests {
  private let ipv6: [UInt8] = [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [1]

  @Test func networksAdmitWhatBeginsAsTheyDo() {
    let rule = AccessRule.network([10, 1, 64, 0], bits: 18)
    #expect(rule.admits(.network([10, 1, 64, 7])) && rule.admits(.network([10, 1, 127, 255])))
    #expect(!rule.admits(.network([10, 1, 128, 0])) && !rule.admits(.network([10, 1, 63, 255])))
    #expect(!rule.admits(.network(ipv6)) && !rule.admits(.unix(user: 0, group: 0)))
    #expect(AccessRule.network([0, 0, 0, 0], bits: 0).admits(.network([1, 2, 3, 4])))
    #expect(!AccessRule.network([0, 0, 0, 0], bits: 0).admits(.network(ipv6)))
    #expect(AccessRule.network([1, 2, 3, 4], bits: 32).admits(.network([1, 2, 3, 4])))
    #expect(!AccessRule.network([1, 2, 3, 4], bits: 32).admits(.network([1, 2, 3, 5])))
    #expect(AccessRule.network(ipv6, bits: 32).admits(.network(ipv6)))
    #expect(!AccessRule.network([1, 2, 3, 4], bits: 33).admits(.network([1, 2, 3, 4])))
  }

  @Test func mappedAddressesAreWhatTheyAre() {
    let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]
    #expect(AccessRule.network([10, 0, 0, 0], bits: 8).admits(.network(mapped)))
    #expect(!AccessRule.network([UInt8](repeating: 0, count: 16), bits: 0).admits(.network(mapped)))
  }

  @Test func unixPeersAreKnownByTheKernel() {
    let peer = PeerIdentity.unix(user: 1000, group: 100)
    #expect(
      AccessRule.unix.admits(peer) && AccessRule.unixUser(1000).admits(peer) && AccessRule.unixGroup(100).admits(peer))
    #expect(!AccessRule.unixUser(100).admits(peer) && !AccessRule.unixGroup(1000).admits(peer))
    #expect(
      !AccessRule.unix.admits(.network([127, 0, 0, 1])) && !AccessRule.unixUser(0).admits(.network([127, 0, 0, 1])))
  }

  @Test func oneRuleIsEnoughAndNoneIsNobody() {
    let rules: [AccessRule] = [.unixUser(0), .network([127, 0, 0, 0], bits: 8)]
    #expect(rules.admits(.network([127, 1, 2, 3])) && rules.admits(.unix(user: 0, group: 9)))
    #expect(!rules.admits(.unix(user: 1, group: 0)))
    #expect(![AccessRule]().admits(.unix(user: 0, group: 0)))
    #expect([AccessRule.anyone].admits(.network([8, 8, 8, 8])))
  }
}

@Suite struct ExportShapeTests {
  private let image = Geometry(sizeBytes: 10_000_000, blockBytesMin: 512, blockBytesPreferred: 4096)

  private func clause(_ window: ExportWindow, _ blocks: BlockSizes = BlockSizes()) -> String? {
    do throws(ExportShape.Mismatch) {
      _ = try ExportShape(window, blocks, of: image)
      return nil
    } catch { return error.clause }
  }

  @Test func withoutWishesItIsTheImage() throws {
    let shape = try ExportShape(.whole, BlockSizes(), of: Geometry(sizeBytes: 1000))
    #expect((shape.offset, shape.sizeBytes, shape.blockBytesMin) == (0, 1000, 1))
    #expect((shape.blockBytesPreferred, shape.payloadBytesMax) == (4096, 32 << 20))
  }

  @Test func anOpenWindowReachesToTheEnd() throws {
    let shape = try ExportShape(ExportWindow(offsetBytes: 1 << 20), BlockSizes(minimum: 4096), of: image)
    #expect(shape.offset == 1 << 20)
    #expect(shape.sizeBytes == (10_000_000 - (1 << 20)) / 4096 * 4096)
    #expect(shape.blockBytesPreferred == 4096)
    #expect(try ExportShape(.whole, BlockSizes(minimum: 65536), of: image).blockBytesPreferred == 65536)
  }

  @Test func whatDoesNotGoTogetherIsSaid() {
    #expect(
      clause(ExportWindow(offsetBytes: 512, sizeBytes: 10_000_000))?.contains("behind the end of the image") == true)
    #expect(clause(ExportWindow(offsetBytes: .max - 511, sizeBytes: 512))?.contains("behind the end") == true)
    #expect(clause(ExportWindow(offsetBytes: 100))?.contains("no multiple of the minimum block size, 512") == true)
    #expect(clause(.whole, BlockSizes(minimum: 1))?.contains("only be addressed in blocks of 512") == true)
    #expect(clause(.whole, BlockSizes(minimum: 1536))?.contains("power of two") == true)
    #expect(clause(.whole, BlockSizes(minimum: 131_072))?.contains("up to 65536") == true)
    #expect(clause(.whole, BlockSizes(preferred: 1 << 20, maximum: 1 << 19))?.contains("multiple of 512") == true)
    #expect(clause(.whole, BlockSizes(maximum: 1_000_001))?.contains("multiple of 512") == true)
    #expect(clause(.whole, BlockSizes(maximum: 64 << 20))?.contains("to 33554432") == true)
  }
}

@Suite struct ChangingExportTableTests {
  /// A copy is not changed: that is what a handshake goes by.
  @Test func aTableIsAValue() throws {
    var table = ExportTable([.test("a", aliases: [""]), .test("b", aliases: [])])
    let before = table
    let a = try #require(table.find("a")?.id)
    table.remove(a)
    table.add(.test("a", sizeBytes: 1 << 20), id: ExportID(rawValue: 2))
    #expect(before.find("")?.id == a && before.find("")?.sizeBytes == 1 << 30)
    #expect(table.find("")?.id == ExportID(rawValue: 2) && table.find("a")?.sizeBytes == 1 << 20)
    #expect(table.list.map(\.name) == ["b", "a"])
    table.remove(a)
    #expect(table.count == 2)
  }

  @Test func aChangedEntryKeepsItsPlaceAndItsID() throws {
    var table = ExportTable([.test("a", aliases: [""]), .test("b", aliases: [])])
    let b = try #require(table.find("b")?.id)
    table.change(b, to: .test("b", aliases: ["c"], isReadOnly: true))
    #expect(table.find("c")?.id == b && table.find("c")?.flags.contains(.readOnly) == true)
    table.change(ExportID(rawValue: 77), to: .test("z"))
    #expect(table.find("z") == nil && table.list.map(\.name) == ["a", "b"])
  }

  @Test func whoMayNotHaveItIsNotToldOfIt() {
    var secret = ExportTable.Entry.test("secret", aliases: [])
    secret.access = [.unixUser(0)]
    let table = ExportTable([.test("open"), secret])
    #expect(table.list(for: .unix(user: 1, group: 1)).map(\.name) == ["open"])
    #expect(table.list(for: .unix(user: 0, group: 1)).map(\.name) == ["open", "secret"])
  }

  @Test func windowsAreToldByTheirSize() throws {
    let geometry = Geometry(sizeBytes: 1 << 20)
    let shape = try ExportShape(
      ExportWindow(offsetBytes: 4096, sizeBytes: 8192), BlockSizes(minimum: 512), of: geometry)
    let entry = ExportTable.Entry(
      name: "part", isReadOnly: false, geometry: geometry, capabilities: .memory, shape: shape)
    let export = try #require(ExportTable([entry]).find("part"))
    #expect((export.sizeBytes, export.imageOffset, export.blockBytesMin) == (8192, 4096, 512))
  }
}
