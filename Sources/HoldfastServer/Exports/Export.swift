// An export as its owner describes it, and what can be said of one that is served.

import BlockBackend
import NBDProtocol
import NBDServerCore
import SystemPackage

/// One name under which an image is served.
package struct Export: Sendable {
  package var name: String
  /// Further names; "" is the default export.
  package var aliases: [String]
  package var description: String?
  package var isReadOnly: Bool
  package var image: Image
  package var window: ExportWindow
  package var blockSizes: BlockSizes
  /// TRIM is answered with success and does nothing (I8 allows to do less).
  package var ignoresTrim: Bool
  package var durability: Durability
  package var limits: ExportLimits
  /// Who may have it.
  package var access: [AccessRule]

  package init(
    name: String, aliases: [String] = [], description: String? = nil, isReadOnly: Bool, image: Image,
    window: ExportWindow = .whole, blockSizes: BlockSizes = BlockSizes(), ignoresTrim: Bool = false,
    durability: Durability = .fua, limits: ExportLimits = ExportLimits(), access: [AccessRule] = [.anyone]
  ) {
    self.name = name
    self.aliases = aliases
    self.description = description
    self.isReadOnly = isReadOnly
    self.image = image
    self.window = window
    self.blockSizes = blockSizes
    self.ignoresTrim = ignoresTrim
    self.durability = durability
    self.limits = limits
    self.access = access
  }

  var names: Set<String> { Set([name] + aliases) }

  /// What new clients are told.
  /// - Throws: window or block sizes do not go with the image.
  package func shape() throws(ExportShape.Mismatch) -> ExportShape {
    try ExportShape(window, blockSizes, of: image.backend.geometry)
  }

  func entry(_ shape: ExportShape) -> ExportTable.Entry {
    ExportTable.Entry(
      name: name, aliases: aliases, description: description, isReadOnly: tellsReadOnly,
      geometry: image.backend.geometry, capabilities: image.backend.capabilities, shape: shape, access: access)
  }

  /// What clients are told about writing.
  var tellsReadOnly: Bool { isReadOnly || !image.backend.capabilities.contains(.writable) }
}

/// How an export goes.
package enum RemovalMode: String, Sendable, CaseIterable {
  /// Not while a client has it.
  case refuse
  /// No new client finds it. It stays, and so does its name.
  case hide
  /// No new client finds it, its name is free at once, and it is gone when its last client goes.
  case drain
  /// As `drain`, and its clients are closed: what was admitted is finished and answered, then they go.
  case now
}

/// Why the exports were not changed. A sentence for the operator.
package enum ExportChangeError: Error, Sendable, Equatable, CustomStringConvertible {
  case noSuchExport(String)
  case nameIsTaken(String)
  case inUse(String, connections: Int)
  case doesNotFit(String, why: String)
  case cannotGrow(String, why: String)
  case shuttingDown

  package var description: String {
    switch self {
    case .noSuchExport(let name): "there is no export \"\(name)\""
    case .nameIsTaken(let name): "the name \"\(name)\" is taken by another export"
    case .inUse(let name, let connections):
      "export \"\(name)\" is used by \(connections) connection\(connections == 1 ? "" : "s"); remove it with mode drain or now"
    case .doesNotFit(let name, let why): "export \"\(name)\": \(why)"
    case .cannotGrow(let name, let why): "export \"\(name)\" cannot be resized: \(why)"
    case .shuttingDown: "the server is shutting down"
    }
  }
}

/// What became of an export that is gone for good.
package struct Departure: Sendable, Equatable {
  package var name: String
  package var id: ExportID
  /// No other export shows its image: the image has been synced for the last time.
  package var wasLastOfImage: Bool
  /// Why that sync failed: acknowledged writes may be lost.
  package var syncError: Errno?
}

/// One export at one moment.
package struct ExportSnapshot: Sendable {
  package enum State: String, Sendable {
    case served
    /// No new client finds it.
    case hidden
    /// Goes with its last client.
    case draining
    /// Its clients are being closed.
    case closing
  }

  /// Never used twice.
  package var id: ExportID
  package var export: Export
  /// What new clients are told, or were told last.
  package var sizeBytes: UInt64
  package var isReadOnly: Bool
  package var state: State
  package var isPaused: Bool
  package var connections: Int
  /// Off the fast path.
  package var requestsInFlight: Int
}
