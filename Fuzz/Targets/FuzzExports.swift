// The exports of the targets: an ordinary one, a read-only one with large blocks, and one whose name has two spellings.

import BlockBackend
import NBDProtocol
import NBDServerCore

struct FuzzExports: ExportDirectory {
  let table: ExportTable
  let listIsAllowed: Bool

  init(hasDefault: Bool, listIsAllowed: Bool) {
    self.listIsAllowed = listIsAllowed
    table = ExportTable([
      ExportTable.Entry(
        name: "disk", aliases: hasDefault ? [""] : [], description: "an ordinary disk", isReadOnly: false,
        geometry: Geometry(sizeBytes: 1 << 20), capabilities: .memory),
      ExportTable.Entry(
        name: "other", isReadOnly: true,
        geometry: Geometry(sizeBytes: 1 << 40, blockBytesMin: 512, blockBytesPreferred: 65536, isRotational: true),
        capabilities: [.extents]),
      ExportTable.Entry(
        name: "é", description: String(repeating: "ü", count: 2048), isReadOnly: false,
        geometry: Geometry(sizeBytes: 0), capabilities: .writable),
    ])
  }

  func find(_ name: String) -> ExportDescription? { table.find(name) }
  var list: [(name: String, description: String?)] { table.list }
}

extension HandshakeLimits {
  /// So small that an input can reach them.
  static let tight = HandshakeLimits(
    optionsMax: 8, optionBytesMax: 16 << 10, optionBytesFatal: 64 << 10, queriesMax: 4, outputBytesBeforeSend: 128)
}
