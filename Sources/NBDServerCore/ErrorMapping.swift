// The one table from errno to what a client may be told (protocol "Error values").

import NBDProtocol
import SystemPackage

extension NBDError {
  /// The error on the wire for an errno from a backend. Everything that is not listed is EIO: a client can do nothing more
  /// precise about it.
  package init(_ errno: Errno) {
    switch errno {
    case .notPermitted, .permissionDenied, .readOnlyFileSystem, .textFileBusy: self = .permission
    case .noSpace, .diskQuotaExceeded, .fileTooLarge: self = .noSpace
    case .notSupported, .notSupportedOnSocket: self = .notSupported
    case .invalidArgument: self = .invalid
    default: self = .io
    }
  }
}
