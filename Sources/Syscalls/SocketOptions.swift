// Options of connected sockets (design: Sockets).

import CLinux
import Glibc
import SystemPackage

extension Sockets {
  /// A small reply must not wait for the acknowledgement of the one before.
  package static func setNoDelay(_ descriptor: Int32) throws(Errno) {
    _ = try checked(hf_set_int_option(descriptor, tcp, TCP_NODELAY, 1))
  }

  /// Probes a silent TCP peer after `idleSeconds`, every `intervalSeconds`; `userTimeoutSeconds` without an acknowledgement of
  /// data or probes ends the connection with ETIMEDOUT.
  package static func setKeepalive(
    _ descriptor: Int32, idleSeconds: Int32, intervalSeconds: Int32, userTimeoutSeconds: Int32
  ) throws(Errno) {
    _ = try checked(hf_set_int_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1))
    _ = try checked(hf_set_int_option(descriptor, tcp, TCP_KEEPIDLE, idleSeconds))
    _ = try checked(hf_set_int_option(descriptor, tcp, TCP_KEEPINTVL, intervalSeconds))
    _ = try checked(hf_set_int_option(descriptor, tcp, TCP_USER_TIMEOUT, userTimeoutSeconds * 1000))
  }

  /// Asks for a send buffer of `bytes`. The kernel may give less (net.core.wmem_max), and counts its own overhead (it doubles
  /// what was asked). Not for TCP: a fixed size ends its autotuning. Of two Unix sockets the sender's counts, never the
  /// receiver's receive buffer.
  package static func setSendBuffer(_ descriptor: Int32, bytes: Int32) throws(Errno) {
    _ = try checked(hf_set_int_option(descriptor, SOL_SOCKET, SO_SNDBUF, bytes))
  }

  /// How long a blocking `recv` waits before it throws `.resourceTemporarilyUnavailable`; 0 = for ever. The kernel rounds to
  /// its tick: 1 ms may be many.
  package static func setReceiveTimeout(_ descriptor: Int32, milliseconds: Int) throws(Errno) {
    _ = try checked(hf_set_receive_timeout(descriptor, Int64(milliseconds) * 1000))
  }

  package static func setNonblocking(_ descriptor: Int32, _ on: Bool) throws(Errno) {
    _ = try checked(hf_set_nonblocking(descriptor, on ? 1 : 0))
  }

  package static func setCloseOnExec(_ descriptor: Int32) throws(Errno) {
    _ = try checked(hf_set_close_on_exec(descriptor))
  }

  /// Whether it is a stream socket that listens, as one from a supervisor should be.
  package static func isListeningStream(_ descriptor: Int32) throws(Errno) -> Bool {
    let isListening = try option(descriptor, SOL_SOCKET, SO_ACCEPTCONN) != 0
    let type = try option(descriptor, SOL_SOCKET, SO_TYPE)
    return isListening && type == Int32(SOCK_STREAM.rawValue)
  }

  package static func option(_ descriptor: Int32, _ level: Int32, _ name: Int32) throws(Errno) -> Int32 {
    var value: Int32 = 0
    _ = try checked(unsafe hf_get_int_option(descriptor, level, name, &value))
    return value
  }

  static var tcp: Int32 { Int32(IPPROTO_TCP) }
}
