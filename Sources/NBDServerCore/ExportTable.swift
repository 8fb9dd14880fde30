// Which names a client may ask for, and what it is told about each (I9: what is told here is what is enforced). A value: a
// handshake goes by the table as it was when it began, whatever becomes of the exports meanwhile.

import BlockBackend
import NBDProtocol

/// The exports of a server that new clients find.
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
    package var shape: ExportShape
    package var access: [AccessRule]

    /// - Parameter shape: nil: all of the image, as it is.
    /// - Precondition: `geometry` keeps the rules of "Size constraints".
    package init(
      name: String, aliases: [String] = [], description: String? = nil, isReadOnly: Bool, geometry: Geometry,
      capabilities: Capabilities, shape: ExportShape? = nil, access: [AccessRule] = [.anyone]
    ) {
      self.name = name
      self.aliases = aliases
      self.description = description
      self.isReadOnly = isReadOnly
      self.geometry = geometry
      self.capabilities = capabilities
      self.access = access
      if let shape {
        self.shape = shape
      } else {
        do throws(ExportShape.Mismatch) { self.shape = try ExportShape(.whole, BlockSizes(), of: geometry) } catch {
          preconditionFailure("an image has a geometry that can be served: \(error.clause)")
        }
      }
    }

    package var names: Set<String> { Set([name] + aliases) }
  }

  /// Largest payload of a request, bytes: what every client may expect (Size constraints).
  package static let payloadBytesMax: UInt32 = 32 * 1024 * 1024

  private var entries: [(id: ExportID, entry: Entry)]
  private var indexByName: [String: Int] = [:]

  package let listIsAllowed = true

  /// Their ids are their positions.
  /// - Precondition: no two entries answer to the same name.
  package init(_ entries: [Entry] = []) {
    self.entries = entries.enumerated().map { (ExportID(rawValue: UInt64($0)), $1) }
    index()
  }

  /// - Precondition: its names are free, and the id was never used.
  package mutating func add(_ entry: Entry, id: ExportID) {
    entries.append((id, entry))
    index()
  }

  /// New clients find it no more. Nothing happens when they did not before.
  package mutating func remove(_ id: ExportID) {
    entries.removeAll { $0.id == id }
    index()
  }

  /// New clients are told this about it.
  package mutating func change(_ id: ExportID, to entry: Entry) {
    guard let position = entries.firstIndex(where: { $0.id == id }) else { return }
    entries[position].entry = entry
    index()
  }

  private mutating func index() {
    indexByName = [:]
    for (position, each) in entries.enumerated() {
      for name in each.entry.names {
        precondition(indexByName.updateValue(position, forKey: name) == nil, "a name leads to one export")
      }
    }
  }

  package var count: Int { entries.count }

  package var list: [(name: String, description: String?)] { entries.map { ($0.entry.name, $0.entry.description) } }

  /// What `peer` is told of: it need not know of what it may not have.
  package func list(for peer: PeerIdentity) -> [(name: String, description: String?)] {
    entries.filter { $0.entry.access.admits(peer) }.map { ($0.entry.name, $0.entry.description) }
  }

  package func find(_ name: String) -> ExportDescription? {
    guard let index = indexByName[name] else { return nil }
    let (id, entry) = entries[index]
    return ExportDescription(
      id: id, name: entry.name, description: entry.description, sizeBytes: entry.shape.sizeBytes,
      flags: entry.transmissionFlags, blockBytesMin: entry.shape.blockBytesMin,
      blockBytesPreferred: entry.shape.blockBytesPreferred, payloadBytesMax: entry.shape.payloadBytesMax,
      offersBlockStatus: true, imageOffset: entry.shape.offset)
  }

  package func access(of id: ExportID) -> [AccessRule] { entries.first { $0.id == id }?.entry.access ?? [] }
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
