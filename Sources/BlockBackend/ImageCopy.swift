// A copy of an image as it is at one moment, which shares the storage of the image until either is written to (reflink).

import SystemPackage

/// A new file without a name that becomes such a copy. Dropped before `publish`, it leaves nothing behind.
package protocol ImageCopy: AnyObject, Sendable {
  /// The bytes and the layout of the image are now those of the copy. The caller keeps everybody from changing the image
  /// meanwhile, and has synced it: what is only in memory is written out first. Blocks, for a time that depends on the number of
  /// extents. Once.
  func take() throws(CopyError)

  /// The copy gets its name, and both survive a crash. Blocks. After `take`; once.
  func publish() throws(CopyError)
}

/// Why there is no copy.
package struct CopyError: Error, Sendable, Equatable {
  package var errno: Errno
  /// Without a capital and without a full stop: what, where, why, what to do.
  package var description: String

  package init(_ errno: Errno, _ description: String) {
    self.errno = errno
    self.description = description
  }
}

extension BlockBackend {
  package func beginCopy(at path: FilePath) throws(CopyError) -> any ImageCopy {
    throw CopyError(.notSupported, "cannot make \(path): only image files can share their storage with a copy")
  }
}
