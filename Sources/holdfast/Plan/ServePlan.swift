// What `serve` is going to do: one pure value, made from the command line or from a configuration, complete before an
// image or a socket is opened.

import BlockBackend
import Faults
import NBDServerCore
import Syscalls

/// Everything the server needs to know.
struct ServePlan: Equatable, Sendable {
  var listeners: [SocketAddress] = []
  var listenersOrigin = ListenersOrigin.configuration
  /// TCP addresses that other machines reach are allowed, though nothing encrypts them.
  var allowsPlaintext = false
  /// How the operator would allow them.
  var plaintextPermission = "--allow-plaintext"
  /// Made before listening when it is not there: the directory of the default socket.
  var socketDirectory: String?
  var admin = AdminPlan()
  var exports: [ExportPlan] = []
  /// The name of the export that an empty name stands for.
  var defaultExport: String?
  var socketMode = SocketMode.ownerOnly
  var connectionsMax = ServePlan.connectionsMaxDefault
  /// A worker may look for the next bytes for a moment before it sleeps.
  var spins = true
  var metrics = MetricsPlan()
  var log = LogPlan()
  /// Debug builds can be started without a guard, to show that it is needed.
  var guards = GuardSwitches.allStand

  static let connectionsMaxDefault = 1024
}

/// Who said where to listen.
enum ListenersOrigin { case nobody, arguments, configuration }

/// One image and how it is offered.
struct ExportPlan: Equatable, Sendable {
  var name: String
  var path: String
  var isReadOnly = false
  /// When there is no such file, a sparse one of this size is made.
  var createdSize: ByteSize?
  /// For people who list the exports.
  var description: String?
  /// What shall go wrong with the image, on purpose.
  var faults: [FaultRule] = []
  var terms = ExportTerms()
}

/// How clients get an export.
struct ExportTerms: Equatable, Sendable {
  var window = ExportWindow.whole
  var blockSizes = BlockSizes()
  /// TRIM succeeds and frees nothing.
  var ignoresTrim = false
  var durability = Durability.fua
  var limits = ExportLimits()
  /// Who may have it.
  var access: [AccessRule] = [.anyone]
}

/// Permission bits of a Unix socket.
struct SocketMode: Equatable, Sendable {
  var bits: UInt16

  static let ownerOnly = SocketMode(bits: 0o600)

  /// Octal digits as in chmod(1), `0660`; nil for anything else.
  init?(parsing text: String) {
    guard (3...4).contains(text.count), text.allSatisfy({ $0.isASCII && $0.isNumber }),
      let bits = UInt16(text, radix: 8), bits <= 0o777
    else { return nil }
    self.bits = bits
  }

  init(bits: UInt16) { self.bits = bits }

  static func mistake(_ text: String) -> String {
    "\"\(text)\" is not a file mode; write octal digits, such as 0660"
  }
}

/// The rules for names that clients ask for; nil when `name` keeps them.
func exportNameMistake(_ name: String) -> String? {
  if name.isEmpty { return "an export needs a name" }
  // The spec's bound on strings (section "Conventions").
  if name.utf8.count > 4096 { return "a name has at most 4096 bytes, this one has \(name.utf8.count)" }
  if name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
    return "a name cannot have control characters"
  }
  return nil
}
