// What a process is told about its surroundings when it starts, and the time of day for its log lines.

import CLinux
import Glibc
import SystemPackage

/// The value of an environment variable; nil when it is not set.
package func environmentVariable(_ name: String) -> String? {
  guard let value = unsafe getenv(name) else { return nil }
  return unsafe String(cString: value)
}

/// `path` as seen from any directory; as it is when the working directory has no name any more.
package func absolutePath(_ path: String) -> String {
  guard !path.hasPrefix("/"), let directory = unsafe getcwd(nil, 0) else { return path }
  defer { unsafe free(directory) }
  return unsafe String(cString: directory) + "/" + path
}

/// The process runs as root.
package func isRunByRoot() -> Bool { geteuid() == 0 }

/// Opens /dev/null in place of whichever of the descriptors 0, 1 and 2 are closed. Else the next file to be opened, an image
/// perhaps, gets such a number, and what is written to standard output or error goes into it. To be called before anything
/// else is opened.
package func fillStandardDescriptors() throws(Errno) {
  while true {
    // Open always gives the lowest number that is free.
    let number = try checked(unsafe hf_open("/dev/null", O_RDWR, 0))
    guard number <= STDERR_FILENO else {
      _ = hf_close(Int32(number))
      return
    }
  }
}

/// CPUs that are online. Not those of the process's affinity: a server on one CPU may spin while its client runs on another, and
/// finds out soon when it does not (`SpinPolicy`).
package func onlineCPUCount() -> Int { max(1, sysconf(CInt(_SC_NPROCESSORS_ONLN))) }

/// What the page cache handles as a whole, bytes; a power of two.
package func pageBytes() -> UInt32 { UInt32(max(4096, sysconf(CInt(_SC_PAGESIZE)))) }

/// The unit of times in /proc, per second.
package func clockTicksPerSecond() -> Int { max(1, sysconf(CInt(_SC_CLK_TCK))) }

/// Makes a directory with permissions `mode` less the umask; one that exists is fine. Its parent has to exist.
package func makeDirectory(_ path: String, mode: UInt32) throws(Errno) {
  guard unsafe mkdir(path, mode) < 0, errno != EEXIST else { return }
  throw Errno(rawValue: errno)
}

/// Keeps the calling thread asleep for ever; signals that are handled wake it for a moment.
package func sleepForEver() -> Never {
  while true { pause() }
}

/// Time of day. It may jump: for people to read, never for measuring a duration.
package struct WallClockTime: Sendable, Equatable {
  /// Since 1970-01-01 00:00:00 UTC.
  package var seconds: Int
  /// 0..<1000.
  package var milliseconds: Int

  package init(seconds: Int, milliseconds: Int) {
    self.seconds = seconds
    self.milliseconds = milliseconds
  }

  package static func now() -> WallClockTime {
    var time = timespec()
    let result = unsafe clock_gettime(CLOCK_REALTIME, &time)
    precondition(result == 0, "CLOCK_REALTIME always exists")
    return WallClockTime(seconds: time.tv_sec, milliseconds: time.tv_nsec / 1_000_000)
  }
}
