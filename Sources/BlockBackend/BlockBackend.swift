// What the server asks of a backend. A backend moves bytes by explicit offset and says the truth about layout; it takes
// no lock on ranges (the server holds the range lock around every call) and knows no client.

import SystemPackage

/// One image, opened. All offsets and lengths are bytes; all ranges are half-open and lie inside `0..<geometry.sizeBytes`
/// (the caller has checked). Every method may be called from any thread, several at a time, and may block the thread
/// unless it says otherwise.
package protocol BlockBackend: AnyObject, Sendable {
  /// Size and alignment. Constant for the life of the backend, but for `grow`.
  var geometry: Geometry { get }

  /// What this backend can do. Constant for the life of the backend.
  var capabilities: Capabilities { get }

  /// Fills all of `bytes` from `offset`. A byte that cannot be had (file shrunk below it, medium error) is an error,
  /// never zeroes.
  func read(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError)

  /// Fills a prefix of `bytes` from what is in memory, without waiting for a medium, and returns its length.
  /// Less than asked means that the rest has to be read with `read`. Zero is always a correct answer.
  func readCached(into bytes: inout MutableRawSpan, at offset: UInt64) throws(BackendError) -> Int

  /// A file whose bytes are those of the image, at the same offsets, so that reads of it can be left to the kernel while
  /// their threads do something else. Open as long as the backend is. Nil: only `read` knows how.
  var readDescriptor: Int32? { get }

  /// Writes all of `bytes` at `offset`, each byte exactly once (I2).
  func write(_ bytes: RawSpan, at offset: UInt64) throws(BackendError)

  /// Gives the storage of whole blocks inside `range` back. May do less, never more (I8). Afterwards each block reads
  /// old or zero.
  func trim(_ range: Range<UInt64>) throws(BackendError)

  /// Makes all of `range` read as zeroes.
  /// - Throws: `Errno.notSupported` only with `.fast`, and then nothing has been changed.
  func zero(_ range: Range<UInt64>, _ options: ZeroOptions) throws(BackendError)

  /// Makes everything that was written durable (`fdatasync`). A failure says nothing about which bytes were lost.
  func sync() throws(BackendError)

  /// Lets go of what is in memory and need not be written, so that it is read from the medium again.
  func forgetCached() throws(BackendError)

  /// Asks for `range` to be in memory soon. Advisory.
  func cache(_ range: Range<UInt64>) throws(BackendError)

  /// The layout of `range` from its start: adjacent extents, equal neighbours merged, at most `extentsMax` of them, none
  /// empty, none beyond `range`. They need not reach the end of `range`. In doubt an extent is data (I3).
  func extents(of range: Range<UInt64>, extentsMax: Int) throws(BackendError) -> [Extent]

  /// Makes room behind the end of the image, which reads as zeroes; `geometry` is what it was until `publish`. The caller holds the lock
  /// on the new bytes, and syncs afterwards.
  /// - Throws: `Errno.notSupported` when this backend cannot; `.invalidArgument` when it is as large already.
  func grow(to sizeBytes: UInt64) throws(BackendError)

  /// The image has this size from now on, or stays larger: clients have been told. `grow` made room for it, and a sync has covered that.
  func publish(sizeBytes: UInt64)

  /// The file itself, whose bytes may be sent as they are for as long as the result lives. Nil when there is none, or when
  /// anybody may change it (I4). Waits for nobody.
  func lendFile() -> (any LentFile)?

  /// What TRIM and WRITE_ZEROES became, if anybody counts it. Constant for the life of the backend.
  var effects: EffectCounters? { get }

  /// Where the image is, for people. Nil: nowhere that has a name.
  var imagePath: String? { get }

  /// Storage that the image takes, bytes. Nil: not known. Waits for nobody.
  var allocatedBytes: UInt64? { get }

  /// Whether `range` can be read without waiting for a medium. False is always a correct answer, and true may be out of
  /// date. Waits for nobody.
  func isCached(_ range: Range<UInt64>) -> Bool

  /// A new file that can become a copy of the image, which shall get the name `path`. Nothing has been done to the image;
  /// what this file system cannot do is refused here. Blocks.
  func beginCopy(at path: FilePath) throws(CopyError) -> any ImageCopy
}

extension BlockBackend {
  package var effects: EffectCounters? { nil }
  package var imagePath: String? { nil }
  package var allocatedBytes: UInt64? { nil }
}

extension BlockBackend {
  package var readDescriptor: Int32? { nil }
}

extension BlockBackend {
  package func lendFile() -> (any LentFile)? { nil }
  package func grow(to sizeBytes: UInt64) throws(BackendError) { throw BackendError(.notSupported) }
  package func publish(sizeBytes: UInt64) {}
  package func isCached(_ range: Range<UInt64>) -> Bool { false }
  package func forgetCached() throws(BackendError) {}
}

/// A file that nobody changes while this object lives (I4): as long as it is kept, every reader finds the same bytes.
package protocol LentFile: AnyObject, Sendable {
  /// Offsets in it are offsets in the image.
  var descriptor: Int32 { get }
}

/// Size and alignment of an image.
package struct Geometry: Sendable, Equatable {
  /// Bytes a client sees.
  package var sizeBytes: UInt64
  /// Smallest unit a client may address; a power of two, at most 65536.
  package var blockBytesMin: UInt32
  /// What clients should align to; a power of two, at least 512 and at least `blockBytesMin`.
  package var blockBytesPreferred: UInt32
  /// The unit that the backend touches as a whole; the server rounds locked ranges outward to it. A power of two.
  package var lockUnitBytes: UInt32
  /// Seeks are expensive (NBD_FLAG_ROTATIONAL).
  package var isRotational: Bool

  package init(
    sizeBytes: UInt64, blockBytesMin: UInt32 = 1, blockBytesPreferred: UInt32 = 4096, lockUnitBytes: UInt32 = 1,
    isRotational: Bool = false
  ) {
    self.sizeBytes = sizeBytes
    self.blockBytesMin = blockBytesMin
    self.blockBytesPreferred = blockBytesPreferred
    self.lockUnitBytes = lockUnitBytes
    self.isRotational = isRotational
  }
}

/// What a backend can do. A client is told nothing that is not in here.
package struct Capabilities: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// `write`, `trim`, `zero` are allowed.
  package static let writable = Capabilities(rawValue: 1 << 0)
  /// `trim` may free storage.
  package static let trim = Capabilities(rawValue: 1 << 1)
  /// `zero` with `.fast` can succeed or refuse cleanly.
  package static let fastZero = Capabilities(rawValue: 1 << 2)
  /// `cache` may do something.
  package static let cache = Capabilities(rawValue: 1 << 3)
  /// `extents` can tell holes from data.
  package static let extents = Capabilities(rawValue: 1 << 4)
  /// Calls wait for nothing but the local kernel: short ones may run on a thread that serves connections. Not for FUSE or
  /// network file systems, where any call may hang for ever.
  package static let local = Capabilities(rawValue: 1 << 5)
}

/// How a range is to be zeroed (NBD WRITE_ZEROES).
package struct ZeroOptions: OptionSet, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The range must be fully provisioned afterwards (NBD_CMD_FLAG_NO_HOLE).
  package static let noHole = ZeroOptions(rawValue: 1 << 0)
  /// Fail with `Errno.notSupported` when it is not faster than writing zeroes (NBD_CMD_FLAG_FAST_ZERO).
  package static let fast = ZeroOptions(rawValue: 1 << 1)
}

/// A run of bytes of one kind.
package struct Extent: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    /// May hold anything.
    case data
    /// Reads as zeroes and has no storage.
    case hole
    /// Reads as zeroes and has storage.
    case zero
  }
  package var lengthBytes: UInt64
  package var kind: Kind

  package init(lengthBytes: UInt64, kind: Kind) {
    self.lengthBytes = lengthBytes
    self.kind = kind
  }
}

/// A request failed in the backend: the errno, and the first byte that was not done, where that is known.
package struct BackendError: Error, Equatable, Sendable {
  package var errno: Errno
  /// Offset in the image, bytes.
  package var offset: UInt64?

  package init(_ errno: Errno, at offset: UInt64? = nil) {
    self.errno = errno
    self.offset = offset
  }
}
