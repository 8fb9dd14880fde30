// A value and the lock that guards it. Not `Synchronization.Mutex`: on Linux that is a priority-inheriting futex, which the
// kernel hands over to the longest waiter at each unlock. With a lock held for a hundred nanoseconds, several times in each
// request, every holder then sleeps and is woken in turn (a lock convoy): 16 busy connections were slower than one.
// An adaptive mutex of glibc spins for as long as such a lock is held, and whoever runs may take it again.

import Glibc

/// For critical sections without system calls. Not recursive; any thread. Public, though nothing outside this package sees it:
/// Swift inlines across modules only what is public, and a generic call that is not specialised costs more than the lock.
@safe
public struct Locked<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
  /// The mutex must not move; the value lies behind it.
  @usableFromInline let mutex: UnsafeMutablePointer<pthread_mutex_t>
  @usableFromInline let value: UnsafeMutablePointer<Value>

  @inlinable
  public init(_ initial: consuming sending Value) {
    let valueOffset = Locked.valueOffset
    let storage = UnsafeMutableRawPointer.allocate(
      byteCount: valueOffset + MemoryLayout<Value>.size, alignment: Locked.alignment)
    unsafe mutex = storage.bindMemory(to: pthread_mutex_t.self, capacity: 1)
    unsafe value = (storage + valueOffset).bindMemory(to: Value.self, capacity: 1)
    unsafe value.initialize(to: initial)
    var attributes = pthread_mutexattr_t()
    unsafe pthread_mutexattr_init(&attributes)
    unsafe pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_ADAPTIVE_NP))
    let status = unsafe pthread_mutex_init(mutex, &attributes)
    unsafe pthread_mutexattr_destroy(&attributes)
    precondition(status == 0, "a mutex can be made in memory that is there")
  }

  @inlinable
  deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe value.deinitialize(count: 1)
    unsafe UnsafeMutableRawPointer(mutex).deallocate()
  }

  /// Calls `body` while no other thread has the value.
  @inlinable @inline(__always)
  public borrowing func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return unsafe try body(&value.pointee)
  }

  @inlinable
  static var valueOffset: Int {
    let size = unsafe MemoryLayout<pthread_mutex_t>.size
    let alignment = MemoryLayout<Value>.alignment
    return (size + alignment - 1) / alignment * alignment
  }

  @inlinable
  static var alignment: Int {
    unsafe max(MemoryLayout<pthread_mutex_t>.alignment, MemoryLayout<Value>.alignment)
  }
}
