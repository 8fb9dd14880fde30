// The servers that are compared, and how each is told to serve an image.

import DaemonHarness

enum ServerKind: String, CaseIterable, Sendable {
  case holdfast
  case nbdkitOneThread = "nbdkit-t1"
  case nbdkitFourThreads = "nbdkit-t4"
  case nbdkit
  case qemuThreads = "qemu-threads"
  case qemuNative = "qemu-native"
  case qemuUring = "qemu-uring"
  case nbdServer = "nbd-server"
  case nbdServerSplice = "nbd-server-splice"
  /// No file behind it: what the generator and the sockets cost.
  case null

  /// The best and the cheapest of these are what holdfast is compared with. Splice is shown only, except where nobody writes:
  /// its replies can mix old and new data of one write.
  func isPeer(in item: Case) -> Bool {
    switch self {
    case .nbdkitOneThread, .nbdkitFourThreads, .nbdkit, .qemuThreads, .qemuNative, .qemuUring, .nbdServer: true
    case .nbdServerSplice: item.readOnly
    case .holdfast, .null: false
    }
  }

  var tool: String? {
    switch self {
    case .holdfast, .null: nil
    case .nbdkitOneThread, .nbdkitFourThreads, .nbdkit: "nbdkit"
    case .qemuThreads, .qemuNative, .qemuUring: "qemu-nbd"
    case .nbdServer, .nbdServerSplice: "nbd-server"
    }
  }

  var export: String {
    switch self {
    case .nbdServer, .nbdServerSplice: "bench"
    default: ""
    }
  }
}

/// Where one server shall listen and what it shall serve.
struct Serving {
  var image: String
  var sizeBytes: UInt64
  var readOnly = false
  var socket: String
  /// TCP on 127.0.0.1 instead of the Unix socket.
  var tcpPort: UInt16?
  /// nbd-server always opens a TCP port, too.
  var sparePort: UInt16
  /// How many connections holdfast allows on the Unix socket, which only its configuration file can say.
  var connectionsMax: Int?
  /// The holdfast under test, and this program.
  var holdfast: String
  var bench: String

  func commandLine(of kind: ServerKind) -> [String] {
    switch kind {
    case .holdfast where connectionsMax != nil:
      [holdfast, "serve", "--log-level", "error", "--config", socket + ".conf"]
    case .holdfast:
      [holdfast, "serve", "--log-level", "error"]
        + (tcpPort.map { ["--tcp", "127.0.0.1:\($0)"] } ?? ["--unix", socket])
        + (readOnly ? ["--read-only"] : []) + [image]
    case .nbdkitOneThread: nbdkit(threads: 1)
    case .nbdkitFourThreads: nbdkit(threads: 4)
    case .nbdkit: nbdkit(threads: nil)
    case .qemuThreads: qemu(["--aio=threads"])
    case .qemuNative: qemu(["--aio=native", "--cache=none"])
    case .qemuUring: qemu(["--aio=io_uring"])
    // Without its own fork to the background it would serve one connection only; it then tells its pid in a file.
    case .nbdServer, .nbdServerSplice: ["nbd-server", "-C", socket + ".conf", "-p", socket + ".pid"]
    case .null:
      [bench, "null-server", "--size", "\(sizeBytes)"]
        + (tcpPort.map { ["--tcp-port", "\($0)"] } ?? ["--unix", socket])
    }
  }

  private func nbdkit(threads: Int?) -> [String] {
    ["nbdkit", "-f"] + (tcpPort.map { ["-i", "127.0.0.1", "-p", "\($0)"] } ?? ["-U", socket])
      + (threads.map { ["-t", "\($0)"] } ?? []) + (readOnly ? ["-r"] : []) + ["file", image]
  }

  private func qemu(_ options: [String]) -> [String] {
    ["qemu-nbd", "-t", "-f", "raw", "--shared=0", "--discard=unmap"] + options
      + (tcpPort.map { ["-b", "127.0.0.1", "-p", "\($0)"] } ?? ["-k", socket]) + (readOnly ? ["-r"] : []) + [image]
  }

  /// What `commandLine` expects beside the socket.
  func configuration(of kind: ServerKind) -> String? {
    switch kind {
    case .holdfast: connectionsMax.map(holdfastConfiguration)
    case .nbdServer: nbdServerConfiguration(splice: false)
    case .nbdServerSplice: nbdServerConfiguration(splice: true)
    case .nbdkitOneThread, .nbdkitFourThreads, .nbdkit, .qemuThreads, .qemuNative, .qemuUring, .null: nil
    }
  }

  private func holdfastConfiguration(connectionsMax: Int) -> String {
    """
    [server]
    listen = ["nbd+unix:///?socket=\(socket)"]
    default-export = "bench"
    max-connections = \(connectionsMax)
    [admin]
    socket = ""
    [[export]]
    name = "bench"
    path = "\(image)"

    """
  }

  /// nbd-server's configuration file.
  private func nbdServerConfiguration(splice: Bool) -> String {
    """
    [generic]
    listenaddr = 127.0.0.1
    port = \(tcpPort ?? sparePort)
    \(tcpPort == nil ? "unixsock = \(socket)\n" : "")
    [bench]
    exportname = \(image)
    readonly = \(readOnly)
    flush = true
    fua = true
    trim = true
    splice = \(splice)

    """
  }
}
