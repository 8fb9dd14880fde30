// Signals that would end the process where an errno says the same.

import CLinux
import Glibc
import SystemPackage

/// From now on a write beyond RLIMIT_FSIZE is EFBIG (SIGXFSZ), and one to a closed socket EPIPE (SIGPIPE).
package func ignoreFatalIOSignals() throws(Errno) {
  for number in [SIGPIPE, SIGXFSZ] { _ = try Files.check(hf_ignore_signal(number)) }
}
