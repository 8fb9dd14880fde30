// Maps of images for the dashboard. Each cell is looked at under a shared lock on its bytes, as block status is (I3); nobody waits
// for a lock, so a cell that is being written keeps what was known. A look takes at most so long and goes on where it stopped.

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
  private static let lookNanosecondsMax: Int64 = 200_000_000
  /// Extents of one cell that are counted; the rest of it is taken for data, as everything that is in doubt.
  private static let extentsPerCellMax = 1024
  /// Images whose maps are kept.
  private static let imagesMax = 256

  private struct Entry {
    var map: AllocationMap
    /// Where the next look begins.
    var nextCell = 0
    /// Nanoseconds of the monotonic clock; nil: never.
    var lookedAt: Int64?
    var isLooking = false
  }

  private let entries = Locked<[ObjectIdentifier: Entry]>([:])
  /// Two threads: an image that hangs leaves one for the others.
  private let lane = SlowLane(name: "maps", threadsMax: 2, idleSeconds: Lanes.idleSeconds)
  private let queue: SlowLane.Queue

  init() { queue = lane.queue(runningMax: 2) }

  /// What is known of the image. Asks for more in the background when that is old. Any thread; waits for nothing.
  func map(of image: Image) -> AllocationMap {
    let key = ObjectIdentifier(image)
    let size = image.backend.geometry.sizeBytes
    let now = MonotonicClock.nanoseconds
    let (map, mustLook) = entries.withLock { entries -> (AllocationMap, Bool) in
      if entries[key] == nil, entries.count >= ImageMapper.imagesMax { entries = entries.filter { $0.value.isLooking } }
      var entry = entries[key] ?? Entry(map: AllocationMap(sizeBytes: size))
      // Grown, or another image at the same place in memory.
      if entry.map.sizeBytes != size { entry = Entry(map: AllocationMap(sizeBytes: size)) }
      let isOld = entry.lookedAt.map { now - $0 > ImageMapper.ageNanosecondsMax || entry.nextCell > 0 } ?? true
      let mustLook = isOld && !entry.isLooking
      if mustLook { entry.isLooking = true }
      entries[key] = entry
      return (entry.map, mustLook)
    }
    if mustLook { queue.submit { [self] in look(at: image) } }
    return map
  }

  private func look(at image: Image) {
    let key = ObjectIdentifier(image)
    guard var entry = entries.withLock({ $0[key] }) else { return }
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
    entry.isLooking = false
    let looked = entry
    entries.withLock { entries in
      // Another size was seen meanwhile: this look was in vain.
      guard entries[key]?.map.sizeBytes == looked.map.sizeBytes else { return }
      entries[key] = looked
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
