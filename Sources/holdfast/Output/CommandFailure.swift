// How a command ends when it cannot do what it was asked: one sentence for the operator, one status for scripts.

import SystemPackage

/// Exit statuses, as in sysexits.h.
enum ExitStatus: Int32, Sendable, CaseIterable {
  /// The command line is wrong.
  case usage = 64
  /// The image is not one we can serve.
  case badImage = 65
  /// There is no such image or file.
  case noInput = 66
  /// The address is in use.
  case unavailable = 69
  /// A bug in Holdfast.
  case internalError = 70
  /// The system gives no process or thread.
  case systemError = 71
  /// A file, socket or directory cannot be made.
  case cannotCreate = 73
  /// A read, write or sync failed.
  case ioError = 74
  /// Another process uses the image.
  case locked = 75
  /// Permission denied.
  case noPermission = 77
  /// The configuration is wrong.
  case configuration = 78
}

/// The operator's mistake or misfortune: what failed, on what, why, and what to do.
struct CommandFailure: Error, Equatable {
  var status: ExitStatus
  /// Complete lines without a line end; each is printed as it is.
  var lines: [String]

  /// One sentence; it is printed behind `error: `.
  init(_ status: ExitStatus, _ sentence: String) {
    self.status = status
    lines = ["error: \(sentence)"]
  }

  /// Lines that say themselves where they belong (`file:line: …`).
  init(_ status: ExitStatus, lines: [String]) {
    self.status = status
    self.lines = lines
  }
}

extension ExitStatus {
  /// The status for a system call that failed on an existing file.
  init(opening errno: Errno) {
    switch errno {
    case .noSuchFileOrDirectory, .notDirectory: self = .noInput
    case .permissionDenied, .notPermitted, .readOnlyFileSystem: self = .noPermission
    case .isDirectory: self = .badImage
    default: self = .ioError
    }
  }
}

/// What the kernel says about `errno`, without Swift's decoration.
func reason(_ errno: Errno) -> String { errno.description }
