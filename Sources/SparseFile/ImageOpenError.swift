// Why an image cannot be served, for the operator: one sentence, and a category that the command line turns into an
// exit status.

/// An image could not be opened.
package struct ImageOpenError: Error, Sendable, CustomStringConvertible {
  package enum Category: Sendable, Equatable {
    case noSuchFile
    case permission
    /// Somebody else uses the image; who, where /proc tells.
    case locked(LockHolder?)
    /// A directory, socket, pipe, ...
    case notAnImage
    /// `create` and `sizeBytes` cannot be met.
    case cannotCreate
    case io
    case tooLarge
  }

  package var category: Category

  /// One sentence without a capital and without a full stop: what, where, why, what to do.
  package var description: String

  init(_ category: Category, _ description: String) {
    self.category = category
    self.description = description
  }
}

/// A process that holds a lock on an image.
package struct LockHolder: Sendable, Equatable, CustomStringConvertible {
  package var pid: Int
  /// As in /proc/PID/comm: at most 15 bytes.
  package var name: String

  package init(pid: Int, name: String) {
    self.pid = pid
    self.name = name
  }

  package var description: String { "pid \(pid) (\(name))" }
}

/// How to open an image.
package struct OpenOptions: Sendable {
  /// Never written. Other readers are welcome, writers are not.
  package var readOnly: Bool
  /// A file that does not exist is made, sparse, with `sizeBytes`. One that exists is served as it is.
  package var create: Bool
  /// The size of the image, bytes. An existing file must not be smaller, and one that is larger is served as it is: it is never cut
  /// or grown.
  package var sizeBytes: UInt64?

  package init(readOnly: Bool = false, create: Bool = false, sizeBytes: UInt64? = nil) {
    self.readOnly = readOnly
    self.create = create
    self.sizeBytes = sizeBytes
  }
}
