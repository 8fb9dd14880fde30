// The file that tells scripts the number of this process: it appears, complete, when the server listens, and is gone when it has
// ended.
//
// As long as the process lives it holds a lock (flock) on the file, which the kernel gives back however the process ends. A file
// without a lock is therefore stale, whatever number is in it, and is replaced. Looking and replacing happen under a lock of the
// directory, so that of two starters one sees the other's file.

import Syscalls
import SystemPackage

struct PidFile: Sendable {
  let path: String

  /// - Throws: when a running server has the file, when something else stands there, or when the directory cannot be used: said
  ///   before an image or a socket is opened.
  init(path: String) throws(CommandFailure) {
    // Removed at the end, when the working directory may have another name.
    self.path = absolutePath(path)
    let lock = try lockDirectory()
    defer { _ = lock.number }
    try look()
  }

  /// Makes the file. Once, when the server listens.
  func publish() throws(CommandFailure) -> Published {
    let lock = try lockDirectory()
    defer { _ = lock.number }
    try look()
    let draft = FilePath("\(path).\(processNumber())")
    do throws(Errno) { return try replace(from: draft) } catch {
      try? Files.unlink(draft)
      throw failure(error)
    }
  }

  private func replace(from draft: FilePath) throws(Errno) -> Published {
    // A predecessor with our number may have been killed here.
    try? Files.unlink(draft)
    let file = try Files.open(draft, [.writable, .createNew])
    try Files.write("\(processNumber())\n", to: file, mode: 0o644)
    try Sockets.tryLock(file.descriptor)
    let status = try Files.fstat(file)
    try Files.rename(draft, to: FilePath(path))
    return Published(path: path, file: file, device: status.device, inode: status.inode)
  }

  /// The file as long as this process has it.
  struct Published: Sendable {
    let path: String
    /// Keeps the lock.
    fileprivate let file: OpenFile
    fileprivate let device: UInt64
    fileprivate let inode: UInt64

    /// Removes the file, if it is still the one that was made.
    func remove() {
      guard let now = try? Files.stat(FilePath(path)), now.device == device, now.inode == inode else { return }
      try? Files.unlink(FilePath(path))
    }
  }

  private enum Standing {
    /// Nothing, or what a server has left behind.
    case free
    case foreign
    /// With the number that it wrote.
    case held(String)
  }

  /// What stands at the path may be replaced.
  private func look() throws(CommandFailure) {
    let standing: Standing
    do throws(Errno) { standing = try whatStandsThere() } catch { throw failure(error) }
    switch standing {
    case .free: return
    case .foreign:
      throw CommandFailure(
        .cannotCreate,
        "cannot make the pid file \(path): what stands there is no pid file; choose another with --pid-file")
    case .held(let number):
      throw CommandFailure(
        .locked,
        "the pid file \(path) belongs to a running server\(number.isEmpty ? "" : ", process \(number)"); "
          + "stop it, or choose another with --pid-file")
    }
  }

  private func whatStandsThere() throws(Errno) -> Standing {
    do throws(Errno) {
      let file = try Files.open(FilePath(path), .nonblocking)
      let status = try Files.fstat(file)
      guard status.kind == .regular, status.sizeBytes <= PidFile.bytesMax else { return .foreign }
      let bytes = try Files.bytes(of: file, at: 0, count: PidFile.bytesMax)
      let number = String(decoding: bytes.last == UInt8(ascii: "\n") ? bytes.dropLast() : bytes[...], as: UTF8.self)
      guard number.allSatisfy({ $0.isASCII && $0.isNumber }) else { return .foreign }
      do throws(Errno) { try Sockets.tryLock(file.descriptor) } catch .wouldBlock { return .held(number) }
      return .free
    } catch .noSuchFileOrDirectory {
      return .free
    }
  }

  /// A number and a line end, generously.
  private static let bytesMax = 32

  /// Held by somebody else for moments only.
  private func lockDirectory() throws(CommandFailure) -> OwnedDescriptor {
    let parent = FilePath(path).removingLastComponent().string
    let directory = parent.isEmpty ? "." : parent
    do throws(Errno) {
      let descriptor = try Sockets.openDirectory(directory)
      for _ in 0..<200 {
        do throws(Errno) {
          try Sockets.tryLock(descriptor.number)
          return descriptor
        } catch .wouldBlock {
          sleepMilliseconds(10)
        } catch .interrupted {
          continue
        }
      }
      throw .resourceTemporarilyUnavailable
    } catch {
      throw failure(error)
    }
  }

  private func failure(_ errno: Errno) -> CommandFailure {
    CommandFailure(
      errno == .permissionDenied || errno == .notPermitted ? .noPermission : .cannotCreate,
      "cannot make the pid file \(path): \(reason(errno)); choose another with --pid-file")
  }
}
