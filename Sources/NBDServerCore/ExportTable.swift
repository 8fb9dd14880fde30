// Which names a client may ask for, and what it is told about each (I9: what is told here is what is enforced).

import BlockBackend
import NBDProtocol

/// The exports of a server.
package struct ExportTable: ExportDirectory, Sendable {
  package struct Entry: Sendable {
    /// The name that clients see in a list.
    package var name: String
    /// Further names that lead here; "" is the default export.
    package var aliases: [String]
    package var description: String?
    package var isReadOnly: Bool
    package var geometry: Geometry
    package var capabilities: Capabilities

    package init(
      name: String, aliases: [String] = [], description: String? = nil, isReadOnly: Bool, geometry: Geometry,
      capabilities: Capabilities
    ) {
      self.name = name
      self.aliases = aliases
      self.description = description
      self.isReadOnly = isReadOnly
      self.geometry = geometry
      self.capabilities = capabilities
    }
  }

  /// Largest payload of a request, bytes: what every client may expect (Size constraints).
  package static let payloadBytesMax: UInt32 = 32 * 1024 * 1024

  package let entries: [Entry]
  private let indexByName: [String: Int]

  package let listIsAllowed = true

  /// - Precondition: no two entries answer to the same name.
  package init(_ entries: [Entry]) {
    self.entries = entries
    var index: [String: Int] = [:]
    for (position, entry) in entries.enumerated() {
      for name in Set([entry.name] + entry.aliases) {
        precondition(index.updateValue(position, forKey: name) == nil, "a name leads to one export")
      }
    }
    indexByName = index
  }

  package var list: [(name: String, description: String?)] { entries.map { ($0.name, $0.description) } }

  package func find(_ name: String) -> ExportDescription? {
    guard let index = indexByName[name] else { return nil }
    let entry = entries[index]
    return ExportDescription(
      id: ExportID(rawValue: UInt64(index)), name: entry.name, description: entry.description,
      sizeBytes: entry.geometry.sizeBytes, flags: entry.transmissionFlags,
      blockBytesMin: entry.geometry.blockBytesMin, blockBytesPreferred: entry.geometry.blockBytesPreferred,
      payloadBytesMax: ExportTable.payloadBytesMax, offersBlockStatus: true)
  }
}

extension ExportTable.Entry {
  /// What the handshake tells about this export. FLUSH and FUA are shared by all connections of an image, so every export
  /// is safe for several connections (I7).
  package var transmissionFlags: TransmissionFlags {
    var flags: TransmissionFlags = [.hasFlags, .sendFlush, .sendFUA, .canMultiConn]
    if geometry.isRotational { flags.insert(.rotational) }
    if capabilities.contains(.cache) { flags.insert(.sendCache) }
    guard !isReadOnly else { return flags.union(.readOnly) }
    flags.insert(.sendWriteZeroes)
    if capabilities.contains(.trim) { flags.insert(.sendTrim) }
    if capabilities.contains(.fastZero) { flags.insert(.sendFastZero) }
    return flags
  }
}
