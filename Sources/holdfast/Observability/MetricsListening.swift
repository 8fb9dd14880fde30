// Opens the metrics endpoint of a plan.

import EventLoops
import HoldfastServer
import Syscalls
import SystemPackage

extension MetricsServer {
  /// Listens everywhere that `plan` says.
  /// - Returns: the addresses as bound, with the ports that the kernel chose.
  func listen(_ plan: ServePlan) throws(CommandFailure) -> [SocketAddress] {
    var bound: [SocketAddress] = []
    for address in plan.metrics.listeners {
      if case .unix(let path) = address {
        do throws(UnixSocketError) { try listen(unixPath: path, mode: UInt32(plan.socketMode.bits)) } catch {
          throw CommandFailure(ExitStatus(error.reason), "metrics: \(error); choose another path")
        }
        bound.append(.unix(path: absolutePath(path)))
      } else {
        do throws(Errno) { bound.append(try listen(tcp: address)) } catch {
          throw CommandFailure(
            ExitStatus(listening: error),
            "metrics: cannot listen on \(address): \(reason(error)); stop what listens there, or choose another address"
          )
        }
      }
    }
    return bound
  }
}
