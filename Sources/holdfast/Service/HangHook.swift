// Debug builds only: an event loop that hangs when a test asks for it, so that a service manager's watchdog can be seen to work.
// Release builds have no way to do this to a server: the watchdog is the same code in both.

#if GUARD_SWITCHES
import EventLoops
import Logging
import Syscalls
import SystemPackage

/// When a file named by HOLDFAST_TEST_HANG_LOOP appears, it is removed and the loop hangs for ever; once, so that the server that is
/// started instead runs.
func hangWhenAsked(_ loop: EventLoop, _ logger: Logger) {
  guard let path = environmentVariable("HOLDFAST_TEST_HANG_LOOP") else { return }
  loop.every(milliseconds: 100) {
    guard (try? Files.unlink(FilePath(path))) != nil else { return }
    logger.critical("the event loop hangs on purpose (HOLDFAST_TEST_HANG_LOOP)")
    sleepForEver()
  }
}
#endif
