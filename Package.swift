// swift-tools-version: 6.2
import Glibc
import PackageDescription

/// Every target: Swift 6 mode, strict concurrency, and `unsafe` written out where it is used. `GUARD_SWITCHES` compiles the
/// switches that take a guard of invariants out, so that tests can show that they would notice; release builds have none.
let guardSwitches = SwiftSetting.define("GUARD_SWITCHES", .when(configuration: .debug))
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
  guardSwitches,
]

func target(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// What tests share. No strict memory safety here: it is C interfaces nearly throughout (sockets, libnbd), and none of it ships.
let harness: [SwiftSetting] = [.swiftLanguageMode(.v6)]

func support(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, path: "Tests/Support/\(name)", swiftSettings: harness)
}

let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")
let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")

let package = Package(
  name: "holdfast",
  products: [
    .executable(name: "holdfast", targets: ["holdfast"]),
    // Preloaded into the server by BenchTests and holdfast-bench; nothing links it.
    .library(name: "CountAllocations", type: .dynamic, targets: ["CountAllocations"]),
    // Preloaded into servers by the scenarios of holdfast-torture.
    .library(name: "TortureFaults", type: .dynamic, targets: ["TortureFaults"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
  ],
  targets: [
    // Pure: bytes and completions in; replies, jobs and events out.
    target("NBDProtocol"),
    target("RangeLocks"),
    target("Locking"),
    target("BlockBackend", ["Locking", system]),
    target("Faults", ["BlockBackend", system]),
    target("NBDServerCore", ["NBDProtocol", "RangeLocks", "BlockBackend", system, deque]),

    // Values to texts: metrics, status, the dashboard.
    target("Reports", ["NBDServerCore", "NBDProtocol", system]),

    // The edge: system calls, threads, sockets, disks.
    // liburing for cold reads. No pkgConfig: its absence would be a warning in every build.
    .target(name: "CLinux", swiftSettings: settings, linkerSettings: [.linkedLibrary("uring")]),
    target("Syscalls", ["CLinux", system]),
    target("SparseFile", ["BlockBackend", "Locking", "Syscalls", system]),
    target("EventLoops", ["Locking", "Syscalls", system, deque]),
    target("HoldfastServer", ["NBDServerCore", "Reports", "EventLoops", "Locking", "Syscalls", system, log, deque]),

    .executableTarget(
      name: "holdfast",
      dependencies: [
        "HoldfastServer", "Reports", "NBDServerCore", "EventLoops", "SparseFile", "Faults", "BlockBackend", "Locking",
        "Syscalls", system, log,
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "TOMLKit", package: "TOMLKit"),
      ],
      swiftSettings: settings),

    // Measures the range locks; `make bench-locks`.
    .executableTarget(
      name: "holdfast-bench-locks", dependencies: ["RangeLocks", "Syscalls", system], swiftSettings: settings),

    // Compares servers under load; `make bench`. A tool: it ships with nobody and works with C interfaces nearly throughout.
    .executableTarget(
      name: "holdfast-bench",
      dependencies: [
        "Reports", "Locking", "Syscalls", "DaemonHarness", system,
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: harness),
    .target(name: "CountAllocations", path: "Tests/Support/CountAllocations"),
    .testTarget(
      name: "BenchTests", dependencies: ["holdfast-bench", "DaemonHarness"], swiftSettings: harness),

    // Backends that hold, fail and lose, and what every backend has to do.
    support("TestBackends", ["BlockBackend", "Locking", "Oracle", system]),
    tests("BlockBackendTests", ["BlockBackend", "TestBackends", system]),
    tests(
      "NBDServerCoreTests",
      ["NBDServerCore", "NBDProtocol", "RangeLocks", "BlockBackend", "TestBackends", system]),
    tests("ReportsTests", ["Reports", "NBDServerCore", "NBDProtocol", "Oracle", "DaemonHarness", system]),
    tests("SyscallsTests", ["Locking", "Syscalls", system]),
    tests("EventLoopsTests", ["EventLoops", "Locking", "Syscalls", system]),
    tests("SparseFileTests", ["SparseFile", "BlockBackend", "Locking", "Syscalls", "TestBackends", system]),

    // Judges the history of a workload; pure.
    // Optimized even in debug builds: it stamps and judges gigabytes.
    .target(
      name: "Oracle",
      swiftSettings: harness + [.unsafeFlags(["-O"], .when(configuration: .debug))]),
    tests("OracleTests", ["Oracle"]),
    tests("FaultsTests", ["Faults", "BlockBackend", "SparseFile", system]),

    // Judges other servers by the same oracle, epoch by epoch; pure, and optimized as well.
    .target(
      name: "Torture", dependencies: ["Oracle"],
      swiftSettings: harness + [.unsafeFlags(["-O"], .when(configuration: .debug))]),
    .target(name: "TortureFaults"),
    .executableTarget(
      name: "holdfast-torture",
      dependencies: [
        "Torture", "Oracle", "Reports", "Locking", "Syscalls", "CNbd",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: harness + [.unsafeFlags(["-O"], .when(configuration: .debug))]),
    .testTarget(name: "TortureTests", dependencies: ["Torture", "Oracle"], swiftSettings: harness),
    .testTarget(
      name: "TortureCommandTests",
      dependencies: ["DaemonHarness", "holdfast", "holdfast-torture"], swiftSettings: harness),

    // The server as a simulation: pure, and optimized even in debug builds, which are those that can take guards out.
    .target(
      name: "Simulation",
      dependencies: ["NBDServerCore", "NBDProtocol", "RangeLocks", "BlockBackend", "Faults", "Oracle", system],
      swiftSettings: settings + [.unsafeFlags(["-O"], .when(configuration: .debug))]),
    .executableTarget(
      name: "holdfast-sim",
      dependencies: [
        "Simulation", "BlockBackend", "Faults", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: harness + [guardSwitches]),
    tests("SimulationTests", ["Simulation", "BlockBackend", "Faults"]),
    tests("RangeLocksTests", ["RangeLocks", "Oracle"]),
    tests("NBDProtocolTests", ["NBDProtocol", "Oracle"]),
    tests(
      "CommandTests",
      [
        "holdfast", "HoldfastServer", "NBDServerCore", "BlockBackend", "Faults", "Syscalls", "DaemonHarness", system,
        log,
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    tests("TidyTests", []),
    tests(
      "HoldfastServerTests",
      [
        "HoldfastServer", "Reports", "SparseFile", "BlockBackend", "EventLoops", "Locking", "Syscalls",
        "NBDServerCore", "NBDProtocol",
        "TestBackends", "NBDClient", "Oracle", "DaemonHarness", system, log,
      ]),

    // Keeps daemons under load for long; `make soak`.
    .executableTarget(
      name: "holdfast-soak",
      dependencies: [
        "DaemonHarness", "NBDClient", "Locking", "Oracle",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: harness),
    .testTarget(name: "SoakTests", dependencies: ["holdfast-soak"], swiftSettings: harness),

    // What the fuzzer feeds, `make fuzz`; the tests replay its corpus.
    .target(
      name: "FuzzTargets",
      dependencies: ["NBDServerCore", "NBDProtocol", "RangeLocks", "BlockBackend", "Oracle", system],
      path: "Fuzz/Targets", swiftSettings: harness),
    .testTarget(
      name: "FuzzTests", dependencies: ["FuzzTargets", "BlockBackend", "Oracle"],
      swiftSettings: harness + [.define("GUARD_SWITCHES", .when(configuration: .debug))]),

    // Real clients against the built daemon.
    support("NBDClient"),
    support("DaemonHarness", ["NBDClient", "Locking"]),
    // No pkgConfig: its absence is a warning in every build, and the module map says all there is to say.
    .systemLibrary(name: "CNbd"),
    .testTarget(
      name: "IntegrationTests", dependencies: ["NBDClient", "DaemonHarness", "Locking", "CNbd"], swiftSettings: harness),
  ]
)

// What speaks through libnbd is built where libnbd is: the daemon does not need it.
if access("/usr/include/libnbd.h", R_OK) != 0 {
  package.targets.removeAll {
    ["CNbd", "holdfast-torture", "TortureCommandTests", "IntegrationTests"].contains($0.name)
  }
}

// The compiler (6.3.1) breaks on the bench under ThreadSanitizer ("Invalid bitcast"), and neither it nor holdfast-torture is
// what is looked at: they are clients.
if Context.environment["HOLDFAST_SANITIZED"] != nil {
  package.targets.removeAll {
    $0.name.hasPrefix("holdfast-bench")
      || ["BenchTests", "SoakTests", "holdfast-soak", "holdfast-torture", "TortureCommandTests"].contains($0.name)
  }
}

// `make mutants` builds the few tests that it needs: all of them take longest to link.
if let names = Context.environment["HOLDFAST_TEST_TARGETS"]?.split(separator: ",").map(String.init) {
  package.targets.removeAll { $0.type == .test && !names.contains($0.name) }
}

// libFuzzer brings a `main` of its own, which only its linker flags find.
if Context.environment["HOLDFAST_FUZZ"] != nil {
  package.targets.append(
    .executableTarget(
      name: "holdfast-fuzz", dependencies: ["FuzzTargets"], path: "Fuzz/Driver",
      swiftSettings: harness + [.unsafeFlags(["-parse-as-library"])]))
}
