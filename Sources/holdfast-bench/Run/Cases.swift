// What is measured, and what holdfast is to reach: the ratio to the best peer (speed), and to the cheapest (CPU per operation).

/// What a measurement runs on.
enum ImageKind: String, CaseIterable {
  /// 256 MiB, all allocated, in the page cache, written block by block.
  case main
  /// 512 MiB of the same, made anew for each measurement: what trims leave must not help the next server.
  case scratch
  /// 64 MiB, made anew for each measurement, for a load that stays in the first 4 MiB.
  case small
  /// 2 GiB, none of it in the page cache.
  case cold
  /// 50,000 blocks of data and as many holes between them.
  case fragmented
  /// 4 GiB, every other 64 MiB of it a hole.
  case halfSparse = "half-sparse"

  var isMadeAnew: Bool {
    switch self {
    case .scratch, .small: true
    case .main, .cold, .fragmented, .halfSparse: false
    }
  }

  var sizeBytes: UInt64 {
    switch self {
    case .main: 256 << 20
    case .scratch: 512 << 20
    case .small: 64 << 20
    case .cold: 2 << 30
    case .fragmented: 100_000 * 4096
    case .halfSparse: 4 << 30
    }
  }
}

enum Work {
  case load(Workload)
  case connects(clients: Int)
  case idle(connections: Int)
  case map
  /// A client program, `runs` times; "URI" stands for the server's. `operations` of it, for the CPU time of one.
  case tool([String], runs: Int, operations: Int)
}

enum Unit: String {
  case perSecond = "op/s"
  case seconds = "s"
  case kibibytes = "KiB"

  /// How many times better `ours` is than `theirs`.
  func ratio(_ ours: Double, to theirs: Double) -> Double {
    switch self {
    case .perSecond: ours / theirs
    case .seconds, .kibibytes: theirs / ours
    }
  }
}

struct Case {
  var name: String
  var work: Work
  var image = ImageKind.main
  var tcp = false
  var readOnly = false
  /// On which processors server and client run; bits. Nil: wherever the kernel puts them.
  var cpus: (server: UInt64, client: UInt64)?
  /// What a measurement takes; longer where a disk decides, whose speed varies from moment to moment.
  var seconds: Double {
    guard case .load(let workload) = work else { return 0.5 }
    return image == .cold || workload.mix == .fua || workload.mix == .flush ? 1 : 0.5
  }
  /// What to hold in any case, and what to reach.
  var floor: Double
  var goal: Double
  var cpuGoal: Double?
  /// nbd-server answers success to trims that it did not do, and knows no block status.
  var isForNbdServer = true

  /// The same with server and load generator on one processor, where nothing crosses from one cache to another and nobody is woken on a
  /// processor that sleeps; nil when the case says itself where they run, or has a client that is not the generator.
  var onOneCPU: Case? {
    guard case .load = work, cpus == nil else { return nil }
    var item = self
    item.cpus = (0b01, 0b01)
    return item
  }

  var unit: Unit {
    switch work {
    case .load, .connects: .perSecond
    case .idle: .kibibytes
    case .map, .tool: .seconds
    }
  }

  func includes(_ kind: ServerKind) -> Bool {
    if kind.tool == "nbd-server" { return isForNbdServer }
    guard kind == .null else { return true }
    switch work {
    // It shows what the generator and the sockets cost beside the work of a server; where a disk decides, that is nothing.
    case .load(let workload): return image == .main && workload.mix != .fua && workload.mix != .flush
    case .connects: return true
    case .idle, .map, .tool: return false
    }
  }
}

extension Case {
  private static func load(
    _ mix: Mix, _ block: Int = 4096, depth: Int, connections: Int = 1, each: Bool = false, structured: Bool = false
  ) -> Work {
    .load(
      Workload(
        mix: mix, blockBytes: block, depth: depth, connections: connections, sendsEach: each, structured: structured))
  }

  static let all: [Case] = smallReads + smallWrites + bulk + readOnlyBulk + syncs + holes + others

  private static let smallReads = [
    Case(
      name: "randread-4k-qd1-two-cpus", work: load(.randread, depth: 1), cpus: (0b10, 0b01), floor: 1, goal: 1.6,
      cpuGoal: 1.1),
    Case(
      name: "randread-4k-qd1-one-cpu", work: load(.randread, depth: 1), cpus: (0b01, 0b01), floor: 1, goal: 1.25,
      cpuGoal: 0.85),
    Case(name: "randread-4k-qd16", work: load(.randread, depth: 16), floor: 1.5, goal: 2.5, cpuGoal: 0.4),
    Case(
      name: "randread-4k-qd16-tcp", work: load(.randread, depth: 16), tcp: true, floor: 1.5, goal: 2.5, cpuGoal: 0.4),
    Case(
      name: "randread-4k-qd16-nobatch", work: load(.randread, depth: 16, each: true), floor: 1.3, goal: 2, cpuGoal: 0.45
    ),
    Case(name: "randread-4k-qd64", work: load(.randread, depth: 64), floor: 3, goal: 4.5, cpuGoal: 0.25),
    Case(
      name: "randread-4k-qd64-tcp", work: load(.randread, depth: 64), tcp: true, floor: 3, goal: 4.5, cpuGoal: 0.25),
    Case(
      name: "randread-4k-qd64-structured", work: load(.randread, depth: 64, structured: true), floor: 3, goal: 4.5,
      cpuGoal: 0.25),
    Case(
      name: "randread-4k-qd16-c4", work: load(.randread, depth: 16, connections: 4), floor: 2.2, goal: 3, cpuGoal: 0.4),
    Case(
      name: "randread-4k-qd16-c16", work: load(.randread, depth: 16, connections: 16), floor: 2.2, goal: 3.5,
      cpuGoal: 0.4),
  ]

  private static let smallWrites = [
    Case(name: "randwrite-4k-qd1", work: load(.randwrite, depth: 1), floor: 1, goal: 1.5, cpuGoal: 1),
    Case(name: "randwrite-4k-qd16", work: load(.randwrite, depth: 16), floor: 1.5, goal: 2.2, cpuGoal: 0.5),
    Case(name: "randwrite-4k-qd64", work: load(.randwrite, depth: 64), floor: 2.5, goal: 3.5, cpuGoal: 0.4),
    Case(name: "rw70-4k-qd32", work: load(.rw70, depth: 32), floor: 2.5, goal: 4, cpuGoal: 0.3),
    Case(name: "rw70-4k-qd32-tcp", work: load(.rw70, depth: 32), tcp: true, floor: 2.5, goal: 3, cpuGoal: 0.3),
  ]

  private static let bulk = [
    Case(name: "randread-64k-qd16", work: load(.randread, 65536, depth: 16), floor: 1, goal: 1.5, cpuGoal: 0.8),
    Case(name: "read-256k-qd8", work: load(.randread, 256 << 10, depth: 8), floor: 1, goal: 1.5, cpuGoal: 0.8),
    Case(name: "read-1m-qd4", work: load(.randread, 1 << 20, depth: 4), floor: 1, goal: 1.1, cpuGoal: 0.8),
    Case(name: "read-32m-qd1", work: load(.randread, 32 << 20, depth: 1), floor: 1, goal: 1.1, cpuGoal: 0.8),
    Case(name: "write-256k-qd8", work: load(.randwrite, 256 << 10, depth: 8), floor: 0.95, goal: 1.1, cpuGoal: 0.9),
    Case(name: "write-1m-qd4", work: load(.randwrite, 1 << 20, depth: 4), floor: 0.95, goal: 1.1, cpuGoal: 0.9),
  ]

  /// Against all, splice too: nobody writes, so nothing can be mixed.
  private static let readOnlyBulk = bulk.prefix(4).map { item in
    var item = item
    item.name += "-read-only"
    item.readOnly = true
    (item.floor, item.goal, item.cpuGoal) = (1.3, 2, 0.5)
    return item
  }

  private static let syncs = [
    Case(name: "fua-4k-qd1", work: load(.fua, depth: 1), floor: 0.95, goal: 1.1, cpuGoal: 1),
    Case(name: "fua-4k-qd16-c4", work: load(.fua, depth: 16, connections: 4), floor: 1.2, goal: 2, cpuGoal: 0.35),
    Case(name: "flush-qd1", work: load(.flush, depth: 1), floor: 1, goal: 1.5, cpuGoal: 1),
  ]

  private static let holes = [
    Case(
      name: "trim-64k-qd16", work: load(.trim, 65536, depth: 16), image: .scratch, floor: 1, goal: 1.2, cpuGoal: 0.85,
      isForNbdServer: false),
    Case(
      name: "wtz-64k-qd4-c8", work: load(.wtz, 65536, depth: 4, connections: 8), image: .small, floor: 1, goal: 1.3,
      cpuGoal: 0.65, isForNbdServer: false),
    Case(
      name: "map-100k-extents", work: .map, image: .fragmented, floor: 1.2, goal: 2, cpuGoal: 0.5,
      isForNbdServer: false),
    Case(
      name: "nbdinfo-map-100k-extents", work: .tool(["nbdinfo", "--map", "URI"], runs: 3, operations: 1),
      image: .fragmented, floor: 1.2, goal: 2, cpuGoal: 0.5, isForNbdServer: false),
  ]

  private static let others = [
    Case(
      name: "cold-4k-qd1", work: load(.randread, depth: 1), image: .cold, floor: 0.95, goal: 1, cpuGoal: 0.75),
    Case(
      name: "cold-4k-qd32", work: load(.randread, depth: 32), image: .cold, floor: 1.1, goal: 1.5, cpuGoal: 0.5),
    Case(name: "connects-1-client", work: .connects(clients: 1), floor: 1, goal: 1.3, cpuGoal: 0.8),
    Case(name: "connects-4-clients", work: .connects(clients: 4), floor: 1, goal: 1.3, cpuGoal: 0.8),
    Case(name: "memory-of-an-idle-connection", work: .idle(connections: 1000), floor: 3, goal: 6),
    Case(
      name: "nbdcopy-4g-half-sparse", work: .tool(["nbdcopy", "URI", "null:"], runs: 1, operations: 1),
      image: .halfSparse, floor: 1, goal: 1.3, cpuGoal: 0.7),
    Case(
      name: "qemu-img-bench-4k-d64", work: qemuImgBench([]), floor: 1.2, goal: 1.5, cpuGoal: 0.7),
    Case(
      name: "qemu-img-bench-4k-d64-write", work: qemuImgBench(["-w"]), floor: 0.9, goal: 1.1, cpuGoal: 0.7),
  ]

  private static func qemuImgBench(_ options: [String]) -> Work {
    let count = 100_000
    let arguments = ["-f", "raw", "-c", "\(count)", "-d", "64", "-s", "4096"] + options + ["URI"]
    return .tool(["qemu-img", "bench"] + arguments, runs: 1, operations: count)
  }
}
