// What the sockets of clients need: a worker waits only so long, small replies leave at once, and dead peers are noticed.

import NBDServerCore
import Syscalls
import SystemPackage

/// For a connected socket, or a listening one whose accepted sockets inherit it.
func prepareTCP(_ socket: Int32) throws(Errno) {
  try Sockets.setReceiveTimeout(socket, milliseconds: Limits.leaseQuietMilliseconds)
  try Sockets.setNoDelay(socket)
  try Sockets.setKeepalive(
    socket, idleSeconds: 60, intervalSeconds: 15, userTimeoutSeconds: Int32(Limits.userTimeoutSeconds))
}

/// Nothing is inherited from a listening Unix socket.
func prepareUnix(_ socket: Int32) throws(Errno) {
  try Sockets.setReceiveTimeout(socket, milliseconds: Limits.leaseQuietMilliseconds)
  try Sockets.setSendBuffer(socket, bytes: Int32(Limits.socketBufferBytes))
}
