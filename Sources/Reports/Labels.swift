// Names of enumerations in metrics and JSON. Users build on them: they never change.

import NBDProtocol
import NBDServerCore

extension NBDError {
  /// The name that errno(3) has for it.
  package var label: String {
    switch self {
    case .permission: "EPERM"
    case .io: "EIO"
    case .noMemory: "ENOMEM"
    case .invalid: "EINVAL"
    case .noSpace: "ENOSPC"
    case .overflow: "EOVERFLOW"
    case .notSupported: "ENOTSUP"
    case .shutdown: "ESHUTDOWN"
    }
  }
}

extension RefusalReason {
  package var label: String {
    switch self {
    case .unknownCommand: "unknown_command"
    case .unknownFlag: "unknown_flag"
    case .flagNotForCommand: "flag_not_for_command"
    case .flagNotAdvertised: "flag_not_advertised"
    case .commandNotAdvertised: "command_not_advertised"
    case .noContext: "no_context"
    case .readOnly: "read_only"
    case .tooLong: "too_long"
    case .beyondEnd: "beyond_end"
    case .unaligned: "unaligned"
    case .reservedFields: "reserved_fields"
    case .emptyStatus: "empty_status"
    case .shuttingDown: "shutting_down"
    }
  }
}

extension RequestErrorKey: Comparable {
  package static func < (a: RequestErrorKey, b: RequestErrorKey) -> Bool {
    (a.command.rawValue, a.error.rawValue) < (b.command.rawValue, b.error.rawValue)
  }
}
