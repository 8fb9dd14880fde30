// One set of locks per image in this process, shared by all exports and windows of it: a second open of the file would
// conflict with our own locks. Inside the process the range lock excludes, so readers and writers may mix.

import BlockBackend
import Locking
import Syscalls
import SystemPackage

/// The right to use an image, given back when the last reference goes.
final class ImageLease: Sendable {
  let identity: ImageIdentity
  let use: ImageUse
  /// A block device that is to be written: the descriptor that claims it (O_EXCL). The kernel drops cached pages on a
  /// punch only for whoever holds the claim.
  let claim: OpenFile?
  /// No locks on this file system: nothing keeps others from writing.
  let lockRefusal: Errno?
  /// For a reader of a locked image while this process has no writer.
  let stillness: Stillness?

  fileprivate init(
    identity: ImageIdentity, use: ImageUse, claim: OpenFile?, lockRefusal: Errno?, stillness: Stillness?
  ) {
    self.identity = identity
    self.use = use
    self.claim = claim
    self.lockRefusal = lockRefusal
    self.stillness = stillness
  }

  deinit { HeldImages.release(identity, use) }
}

/// What was in the way of a lease.
enum LeaseRefusal: Error {
  /// Another program; see `ImageLock.Outcome`.
  case inUse(onBytes: Set<UInt64>, readerIsWelcome: Bool)
  /// A block device that is mounted or claimed by another program.
  case claimed
  /// This process serves the same bytes under another name.
  case overlaps(FilePath)
  /// Its bytes are on their way to clients just as they are in the file; a writer may come when they have arrived.
  case isBeingSent
  case failed(Errno)
}

private struct HeldImage {
  var path: FilePath
  var related: Set<ImageIdentity>
  var lock: ImageLock
  var lockRefusal: Errno?
  var claim: OpenFile?
  var claimIsWritable = false
  var users: [ImageUse: Int] = [:]
  var stillness: Stillness?
}

enum HeldImages {
  private static let held = Locked<[ImageIdentity: HeldImage]>([:])

  /// Locks the image behind `file`, which any open of it may be. Waits for nobody.
  static func lease(
    _ identity: ImageIdentity, _ use: ImageUse, of file: OpenFile, at path: FilePath
  ) throws(LeaseRefusal) -> ImageLease {
    let related = relatedImages(of: identity)
    return try held.withLock { held throws(LeaseRefusal) in
      for (other, image) in held where image.related.contains(identity) || related.contains(other) {
        throw .overlaps(image.path)
      }
      var image: HeldImage
      if let known = held.removeValue(forKey: identity) {
        image = known
      } else {
        image = HeldImage(path: path, related: related, lock: ImageLock(try reopened(file)))
      }
      // Put back, also on failure, unless nobody uses it.
      defer { if !image.users.isEmpty { held[identity] = image } }

      // First of all: from here on nothing more is lent, and this stays so if the writer is refused.
      if use == .writer, let stillness = image.stillness {
        guard stillness.end() else { throw .isBeingSent }
        image.stillness = nil
      }
      if image.lockRefusal == nil {
        switch image.lock.add(use) {
        case .locked: break
        case .conflict(let bytes, let readerIsWelcome):
          throw .inUse(onBytes: bytes, readerIsWelcome: readerIsWelcome)
        case .unsupported(let errno): image.lockRefusal = errno
        case .failed(let errno): throw .failed(errno)
        }
      }
      if case .blockDevice = identity {
        do throws(LeaseRefusal) {
          try claim(&image, writable: use == .writer, file)
        } catch {
          if image.users[use] == nil, let other = image.users.keys.first { image.lock.keep(other.heldBytes) }
          throw error
        }
      }
      if image.users.isEmpty && use == .reader && image.lockRefusal == nil, case .file = identity {
        image.stillness = Stillness()
      }
      image.users[use, default: 0] += 1
      return ImageLease(
        identity: identity, use: use, claim: use == .writer ? image.claim : nil, lockRefusal: image.lockRefusal,
        stillness: use == .reader ? image.stillness : nil)
    }
  }

  fileprivate static func release(_ identity: ImageIdentity, _ use: ImageUse) {
    held.withLock { held in
      guard var image = held.removeValue(forKey: identity), let count = image.users[use] else {
        preconditionFailure("a lease is released once")
      }
      image.users[use] = count > 1 ? count - 1 : nil
      guard let left = image.users.keys.first else { return }  // closes the descriptors, which drops the locks
      if image.users.count == 1 { image.lock.keep(left.heldBytes) }
      held[identity] = image
    }
  }

  /// O_EXCL on a block device belongs to one open, also against this process: a reader's claim makes room for a writer's.
  private static func claim(_ image: inout HeldImage, writable: Bool, _ file: OpenFile) throws(LeaseRefusal) {
    guard image.claim == nil || (writable && !image.claimIsWritable) else { return }
    let before = image.claim != nil
    image.claim = nil
    do throws(Errno) {
      image.claim = try Files.reopen(file, writable ? [.exclusiveDevice, .writable] : .exclusiveDevice)
      image.claimIsWritable = writable
    } catch {
      if before { image.claim = try? Files.reopen(file, .exclusiveDevice) }
      throw error == .resourceBusy ? .claimed : .failed(error)
    }
  }

  private static func reopened(_ file: OpenFile) throws(LeaseRefusal) -> OpenFile {
    do throws(Errno) { return try Files.reopen(file) } catch { throw .failed(error) }
  }
}
