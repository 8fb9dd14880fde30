// Maps of images for the dashboard. Each cell is looked at under a shared lock on its bytes, as block status is (I3); nobody waits
// for a lock, so a cell that is being written keeps what was known. Writers of the cell wait meanwhile, so a look at one is short.
// A look at an image takes at most so long and goes on where it stopped, and nine times as long nobody looks at any.

import BlockBackend
import EventLoops
import Locking
import NBDServerCore
import Reports
import Syscalls

final class ImageMapper: Sendable {
  /// A map is made anew when it is asked for and older than this.
  private static let ageNanosecondsMax: Int64 = 3_000_000_000
  /// Of one look.
  private static let lookNanosecondsMax: Int64 = 100_000_000
  /// Rests after a look, in looks: together they take a tenth of one thread at most.
  private static let restPerLook: Int64 = 9
  /// Extents of one cell that are counted; the rest of it is taken for data, as everything that is in doubt.
  private static let extentsPerCellMax = 64
  /// Images whose maps are kept.
  private static let imagesMax = 256

  private struct Entry {
    var map: AllocationMap
    /// Where the next look begins.
    var nextCell = 0
    /// Nanoseconds of the monotonic clock; nil: never.
    var lookedAt: Int64?
  }

  private struct Maps {
    var entries: [ObjectIdentifier: Entry] = [:]
    /// Whose turns come, in order; each once. Nothing is kept open for its picture.
    var wanted: [Wanted] = []
    var isLooking = false
  }

  private struct Wanted {
    let key: ObjectIdentifier
    weak var image: Image?
  }

  private let maps = Locked(Maps())
  private let queue = SlowLane(name: "maps", threadsMax: 1, idleSeconds: Lanes.idleSeconds).queue(runningMax: 1)

  /// What is known of the image. Asks for more in the background when that is old. Any thread; waits for nothing.
  func map(of image: Image) -> AllocationMap {
    let key = ObjectIdentifier(image)
    let size = image.backend.geometry.sizeBytes
    let now = MonotonicClock.nanoseconds
    // On a network file system or FUSE each question may take long, with the lock of its bytes held.
    guard image.isLocal else { return AllocationMap(sizeBytes: size) }
    let (map, mustLook) = maps.withLock { maps -> (AllocationMap, Bool) in
      if maps.entries[key] == nil, maps.entries.count >= ImageMapper.imagesMax { maps.entries = [:] }
      var entry = maps.entries[key] ?? Entry(map: AllocationMap(sizeBytes: size))
      // Grown, or another image at the same place in memory.
      if entry.map.sizeBytes != size { entry = Entry(map: AllocationMap(sizeBytes: size)) }
      maps.entries[key] = entry
      let isOld = entry.lookedAt.map { now - $0 > ImageMapper.ageNanosecondsMax || entry.nextCell > 0 } ?? true
      if isOld, maps.wanted.count < ImageMapper.imagesMax, !maps.wanted.contains(where: { $0.key == key }) {
        maps.wanted.append(Wanted(key: key, image: image))
      }
      let mustLook = !maps.wanted.isEmpty && !maps.isLooking
      if mustLook { maps.isLooking = true }
      return (entry.map, mustLook)
    }
    if mustLook { queue.submit { [self] in lookAtAll() } }
    return map
  }

  private func lookAtAll() {
    while true {
      let next = maps.withLock { maps -> Wanted? in
        guard !maps.wanted.isEmpty else {
          maps.isLooking = false
          return nil
        }
        return maps.wanted.removeFirst()
      }
      guard let next else { return }
      let begun = MonotonicClock.nanoseconds
      lookIfThere(next)
      let taken = MonotonicClock.nanoseconds - begun
      sleep(for: .nanoseconds(ImageMapper.restPerLook * taken))
    }
  }

  /// The image is let go before the rest that follows.
  @inline(never)
  private func lookIfThere(_ wanted: Wanted) {
    guard let image = wanted.image else { return }
    look(at: image)
  }

  private func look(at image: Image) {
    let key = ObjectIdentifier(image)
    guard var entry = maps.withLock({ $0.entries[key] }) else { return }
    let begun = MonotonicClock.nanoseconds
    let count = entry.map.usedCount
    while entry.nextCell < count {
      if let cell = image.kind(of: entry.map.range(of: entry.nextCell), extentsMax: ImageMapper.extentsPerCellMax) {
        entry.map.set(entry.nextCell, cell)
      }
      entry.nextCell += 1
      if MonotonicClock.nanoseconds - begun > ImageMapper.lookNanosecondsMax { break }
    }
    if entry.nextCell >= count { entry.nextCell = 0 }
    entry.lookedAt = MonotonicClock.nanoseconds
    let looked = entry
    maps.withLock { maps in
      // Another size was seen meanwhile: this look was in vain.
      guard maps.entries[key]?.map.sizeBytes == looked.map.sizeBytes else { return }
      maps.entries[key] = looked
    }
  }
}

extension Image {
  /// What the bytes of `range` are. Nil: somebody has them locked, or the backend cannot say. Blocks as long as the file system does.
  fileprivate func kind(of range: Range<UInt64>, extentsMax: Int) -> AllocationMap.Cell? {
    switch admit(range, .shared) {
    case .waiting(let token):
      abandon(token)
      return nil
    case .granted(let token):
      defer { finish(token, mutated: false) }
      do throws(BackendError) {
        var data: UInt64 = 0
        var zeroes: UInt64 = 0
        var offset = range.lowerBound
        for extent in try backend.extents(of: range, extentsMax: extentsMax) {
          switch extent.kind {
          case .data: data += extent.lengthBytes
          case .zero: zeroes += extent.lengthBytes
          case .hole: break
          }
          offset += extent.lengthBytes
        }
        data += range.upperBound - min(offset, range.upperBound)
        return AllocationMap.cell(dataBytes: data, zeroBytes: zeroes, of: range.upperBound - range.lowerBound)
      } catch {
        return nil
      }
    }
  }
}
