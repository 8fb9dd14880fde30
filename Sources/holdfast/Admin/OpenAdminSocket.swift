// From a plan to an admin socket that answers.

import EventLoops
import HoldfastServer
import Logging
import Syscalls
import SystemPackage

/// - Returns: nil when the plan has none, or the default one cannot be made, which the log says.
/// - Throws: why the one that was asked for cannot be made.
func openAdminSocket(
  _ plan: AdminPlan, service: AdminService, loop: EventLoop, logger: Logger
) throws(CommandFailure) -> AdminSocket? {
  guard let path = plan.socket else { return nil }
  if plan.isDefault, let directory = RuntimeDirectories.ofThisProcess().socketDirectory {
    // When it cannot be made the socket cannot be, either.
    do throws(Errno) { try makeDirectory(directory, mode: 0o755) } catch {}
  }
  do throws(UnixSocketError) {
    return try AdminSocket.listen(path: path, loop: loop, logger: logger) { line, peer in service.answer(line, peer) }
  } catch {
    guard plan.isDefault else {
      throw CommandFailure(ExitStatus(error.reason), "\(error); stop it, or choose another path for the admin socket")
    }
    logger.warning("there is no admin socket: \(error); choose another path (--admin, or [admin] socket)")
    return nil
  }
}
