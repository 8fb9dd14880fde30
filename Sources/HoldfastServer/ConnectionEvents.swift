// What the socket of a connection reports.

import EventLoops
import Syscalls
import SystemPackage

extension Connection: ChannelOwner {
  func channelIsReadable() {
    guard replies.withLock({ $0.beginLease() }) else { return }
    if server.isAttended && isNewcomer {
      server.newcomers.withLock { $0.append(self) }
    } else {
      server.workers.submit(.serve(self))
    }
  }

  func channelIsWritable() { becomeWritable() }

  func channelIsHungUp() {
    // Who serves it finds out, and who sends; a connection that is watched for bytes is told so.
    if replies.withLock({ $0.isPaused }) { die("the client is gone") }
  }

  func channelIsLost(_ error: Errno) { die("the system cannot watch its socket: \(error)") }
}
