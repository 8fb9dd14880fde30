// Carries `CaptiveOptions` out: what is found out before anything is opened, and what begins when the server listens.

import Glibc
import HoldfastServer
import Logging
import Syscalls
import SystemPackage

/// The parent as early as it could be asked for.
let parentAtStart = ParentProcess.now()

struct Captivity: Sendable {
  private let options: CaptiveOptions
  /// The socket that inetd gave us.
  private let client: Int32?
  private let pidFile: PidFile?

  var isSilent: Bool { options.isSilent }

  /// Before anything is opened or read.
  init(_ options: CaptiveOptions) throws(CommandFailure) {
    self.options = options
    if options.exitWithParent { try Captivity.followParent() }
    client = options.inetd ? try Captivity.takeClient() : nil
    pidFile = if let path = options.pidFile { try PidFile(path: path) } else { nil }
  }

  /// Nobody but the client of inetd is served.
  func adopt(_ plan: inout ServePlan, inherited: Int) throws(CommandFailure) {
    guard options.inetd else { return }
    if plan.listenersOrigin == .arguments {
      throw CommandFailure(.usage, "--inetd serves the socket that is standard input alone; take --unix and --tcp away")
    }
    if inherited > 0 {
      throw CommandFailure(
        .usage, "--inetd serves the socket that is standard input, and there are others; use StandardInput=socket")
    }
    // A configuration says where its exports are served by others.
    plan.listeners = []
    plan.socketDirectory = nil
  }

  /// Before the server listens: a place for a socket, when nobody named one.
  func prepare(_ plan: inout ServePlan, inherited: Int, _ server: Server, _ ending: Ending, _ logger: Logger)
    throws(CommandFailure)
  {
    if options.exitWhenIdle || options.inetd {
      server.whenIdle {
        logger.notice("the last client has left: stopping")
        ending.begin()
      }
    }
    guard options.run != nil, plan.listenersOrigin == .nobody, inherited == 0 else { return }
    let directory = try makeSocketDirectory()
    ending.atEnd { try? Files.removeDirectory(FilePath(directory)) }
    plan.listeners = [.unix(path: "\(directory)/nbd.sock")]
  }

  /// Everything is open and listens.
  func begin(_ plan: ServePlan, at listeners: [SocketAddress], _ server: Server, _ ending: Ending)
    throws(CommandFailure)
  {
    if let pidFile {
      let published = try pidFile.publish()
      ending.atEnd { published.remove() }
    }
    if let client {
      do throws(Errno) { try server.serve(connected: OwnedDescriptor(owning: client)) } catch {
        throw CommandFailure(.ioError, "cannot serve the socket that is standard input: \(reason(error))")
      }
    }
    if let text = options.run {
      let export = plan.defaultExport ?? plan.exports.first?.name ?? ""
      ending.run(CaptiveCommand(text, CaptiveVariables(export: export, listeners: listeners)))
    }
  }

  /// SIGTERM when the parent ends; there is nobody to serve when it has.
  private static func followParent() throws(CommandFailure) {
    do throws(Errno) {
      if try parentAtStart.sendsSignalWhenItEnds(SIGTERM) { return }
    } catch {
      throw CommandFailure(.systemError, "cannot follow the end of the parent process: \(reason(error))")
    }
    throw CommandFailure(.unavailable, "the parent process has ended already; nothing is served")
  }

  private static func takeClient() throws(CommandFailure) -> Int32 {
    do throws(Errno) { return try StandardDescriptors.takeSocket().take() } catch {
      throw CommandFailure(
        .usage,
        "--inetd: standard input is not a connected stream socket (\(reason(error))); "
          + "it is for inetd, socket units with Accept=yes and StandardInput=socket, and clients that start their server"
      )
    }
  }

  /// A directory that only this user can enter, where a path to a socket fits into an address.
  private func makeSocketDirectory() throws(CommandFailure) -> String {
    let wanted = environmentVariable("TMPDIR").flatMap { $0.isEmpty ? nil : absolutePath($0) } ?? "/tmp"
    let place = wanted.utf8.count <= SocketAddress.unixPathBytesMax - 32 ? wanted : "/tmp"
    do throws(Errno) { return try Files.makeTemporaryDirectory(prefix: "\(place)/holdfast-") } catch {
      throw CommandFailure(
        error == .permissionDenied ? .noPermission : .cannotCreate,
        "cannot make a directory for the socket in \(place): \(reason(error)); set TMPDIR, or pass --unix PATH")
    }
  }
}
