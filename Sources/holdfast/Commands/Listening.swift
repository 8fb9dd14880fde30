// Opens the sockets of a plan.

import EventLoops
import HoldfastServer
import Syscalls
import SystemPackage

extension Server {
  /// Accepts from sockets that a service manager opened.
  func listen(on inherited: [(descriptor: Int32, address: SocketAddress)]) throws(CommandFailure) {
    for (descriptor, address) in inherited {
      do throws(Errno) { try listen(inherited: OwnedDescriptor(owning: descriptor)) } catch {
        throw CommandFailure(ExitStatus(listening: error), "cannot listen on \(address): \(reason(error))")
      }
    }
  }

  /// Listens everywhere that `plan` says.
  /// - Returns: the addresses as bound, with the ports that the kernel chose.
  func listen(_ plan: ServePlan, beside inherited: [SocketAddress] = []) throws(CommandFailure) -> [SocketAddress] {
    if let directory = plan.socketDirectory {
      do throws(Errno) {
        // The socket has permissions of its own.
        try makeDirectory(directory, mode: 0o755)
      } catch {
        throw CommandFailure(
          error == .permissionDenied ? .noPermission : .cannotCreate,
          "cannot make the directory \(directory): \(reason(error)); pass --unix PATH to listen elsewhere")
      }
    }
    var bound: [SocketAddress] = []
    for address in plan.listeners {
      if case .unix(let path) = address {
        do throws(UnixSocketError) { try listen(unixPath: path, mode: UInt32(plan.socketMode.bits)) } catch {
          throw CommandFailure(ExitStatus(error.reason), "\(error); \(advice(error.reason))")
        }
        // A URI has to work from anywhere.
        bound.append(.unix(path: absolutePath(path)))
      } else {
        do throws(Errno) { bound.append(try listen(tcp: address)) } catch {
          // "localhost" has both addresses in /etc/hosts even where IPv6 is off.
          if error.isNoSuchAddress, address.isLocal,
            (inherited + plan.listeners).contains(where: { address.hasIPv4Twin($0) })
          {
            continue
          }
          throw CommandFailure(
            ExitStatus(listening: error),
            "cannot listen on \(address): \(reason(error)); "
              + (inherited.contains { $0.port == address.port && error == .addressInUse }
                ? "the service manager listens on that port for us: take the address out of \"listen\"" : advice(error))
          )
        }
      }
    }
    return bound
  }

  private func advice(_ errno: Errno) -> String {
    errno.isNoSuchAddress
      ? "this machine does not have that address; choose another"
      : "stop what listens there, or choose another address"
  }

  private func advice(_ reason: UnixSocketError.Reason) -> String {
    switch reason {
    case .inUse, .directoryIsLocked: "stop it, or listen on another path"
    case .notASocket: "remove the file, or listen on another path"
    case .failed: "listen on another path"
    }
  }
}

extension Errno {
  fileprivate var isNoSuchAddress: Bool { self == .addressNotAvailable || self == .addressFamilyNotSupported }
}

extension SocketAddress {
  /// It is ::1, and `other` is 127.0.0.1 with the same port.
  fileprivate func hasIPv4Twin(_ other: SocketAddress) -> Bool {
    switch (self, other) {
    case (.ipv6(_, let port, _), .ipv4(let bytes, let otherPort)): port == otherPort && bytes == [127, 0, 0, 1]
    default: false
    }
  }
}

extension ExitStatus {
  init(_ reason: UnixSocketError.Reason) {
    switch reason {
    case .inUse, .directoryIsLocked: self = .unavailable
    case .notASocket: self = .cannotCreate
    case .failed(_, let errno): self.init(listening: errno)
    }
  }

  init(listening errno: Errno) {
    switch errno {
    case .addressInUse, .addressNotAvailable: self = .unavailable
    case .permissionDenied, .notPermitted: self = .noPermission
    default: self = .cannotCreate
    }
  }
}
