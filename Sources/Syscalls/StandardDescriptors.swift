// Standard input, output and error as whoever started us connected them: to one socket, when it is inetd (inetd(8)).

import CLinux
import Glibc
import SystemPackage

package enum StandardDescriptors {
  /// Where standard output and error are the socket that standard input is, puts /dev/null in its place: what is printed must not
  /// reach the client.
  package static func silenceSocket() throws(Errno) {
    guard hf_connected_type(STDIN_FILENO) >= 0 else { return }
    for number in [STDOUT_FILENO, STDERR_FILENO] where hf_is_same_file(STDIN_FILENO, number) == 1 {
      try putNull(number)
    }
  }

  /// The connected stream socket that is standard input; /dev/null takes its place.
  /// - Throws: `.notSocket`, `.socketNotConnected` or `.socketTypeNotSupported` when it is no such socket.
  package static func takeSocket() throws(Errno) -> OwnedDescriptor {
    let type = try checked(hf_connected_type(STDIN_FILENO))
    guard type == Int32(SOCK_STREAM.rawValue) else { throw .socketTypeNotSupported }
    let socket = OwnedDescriptor(owning: try checked(hf_duplicate_from(STDIN_FILENO, STDERR_FILENO + 1)))
    // Workers wait in `recv`.
    try Sockets.setNonblocking(socket.number, false)
    try putNull(STDIN_FILENO)
    return socket
  }

  private static func putNull(_ number: Int32) throws(Errno) {
    let null = OwnedDescriptor(owning: Int32(try checked(unsafe hf_open("/dev/null", O_RDWR | O_CLOEXEC, 0))))
    _ = try checked(hf_replace(null.number, number, 0))
  }
}
