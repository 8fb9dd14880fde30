// The command line: a daemon under mixed load with bursts of bad clients and failing disks, for as long as you like, and whether
// its memory, descriptors and threads stay where they are.

import ArgumentParser
import DaemonHarness
import Glibc

@main
struct Soak: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "holdfast-soak", abstract: "Keeps daemons under load and watches what they take.",
    discussion: """
      Two daemons are started, one as it is and one with --fault rules. Rounds of load, each with a burst of one kind of bad
      clients, alternate with pauses in which nobody is connected; what the daemons take is read at the end of a pause.
      Status 1: something grew, data was wrong, or a daemon ended.
      """)

  @Option(help: "How long.") var seconds = 1800.0
  @Option(help: "Clients at a time, each with a thread.") var clients = 6
  @Option(help: "The same seed makes the same requests.") var seed: UInt64 = 1

  /// Rules of the second daemon.
  static let faults = [
    "write+zero+trim:error=EIO,probability=2%,seed=3", "read:delay=20ms,probability=1%,seed=4",
    "write:short=512,probability=5%,seed=5", "any:error=EINTR,probability=5%,seed=6", "sync:delay=30ms,probability=20%",
    "read:error=EIO,probability=1%,seed=8",
  ]

  func validate() throws {
    guard seconds >= 300 else { throw ValidationError("--seconds is at least 300: ten rounds.") }
    guard (1...32).contains(clients) else { throw ValidationError("--clients is 1 to 32.") }
  }

  func run() throws {
    signal(SIGPIPE, SIG_IGN)
    let isGood = try withScratch { scratch in
      let good = try Patient("plain", in: scratch, faults: [])
      let faulty = try Patient("faulty", in: scratch, faults: Self.faults)
      var patients = [good, faulty]
      return try soak(&patients)
    }
    if !isGood { throw ExitCode.failure }
  }

  private func soak(_ patients: inout [Patient]) throws -> Bool {
    let begin = monotonicSeconds()
    let roundSeconds = 30.0
    // Threads that have nothing to do end after 10 s.
    let pauseSeconds = 12.0
    var round = 0
    while monotonicSeconds() - begin < seconds {
      let load = Load(patients.map(\.target), clients: clients, seed: seed &+ UInt64(round) << 20)
      try load.run(seconds: roundSeconds - pauseSeconds, burst: Burst.allCases[round % Burst.allCases.count])
      let pauseEnd = monotonicSeconds() + pauseSeconds
      for patient in patients {
        if let status = patient.daemon.child.status() {
          say("the \(patient.target.name) daemon ended: \(status)\n\(patient.daemon.log.suffix(4000))")
          return false
        }
      }
      usleep(useconds_t(max(0, pauseEnd - monotonicSeconds()) * 1e6))
      for index in patients.indices {
        patients[index].takeSample()
        let (target, sample) = (patients[index].target, patients[index].samples.last)
        say("\(Int(monotonicSeconds() - begin)) s \(target.name): \(target.summary); \(sample.map { "\($0)" } ?? "")")
      }
      if let wrong = load.wrong {
        say("wrong: \(wrong)")
        return false
      }
      round += 1
    }
    var isGood = true
    for patient in patients {
      let findings = Growth.findings(patient.samples)
      say("\(patient.target.name): \(Growth.summary(patient.samples))")
      for finding in findings { say("\(patient.target.name): \(finding)") }
      isGood = isGood && findings.isEmpty
      try patient.daemon.stop()
    }
    say(isGood ? "soak: flat" : "soak: something grew")
    return isGood
  }
}

/// A line at once, also into a pipe.
private func say(_ line: String) {
  let bytes = Array((line + "\n").utf8)
  _ = write(STDOUT_FILENO, bytes, bytes.count)
}
