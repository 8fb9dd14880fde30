// Many seeds, or all small workloads, on all CPUs: one process for each, so that a trap ends one of them and is a finding.

import ArgumentParser
import Foundation

final class Campaign {
  private let command: HoldfastSim
  private let names: [String]
  private var totals: [Int]
  private var findings: [(item: UInt64, what: String)] = []
  private let start = Date()
  private var lastProgress = Date()

  init(_ command: HoldfastSim) {
    self.command = command
    names =
      command.exhaustive
      ? ["workloads", "states", "transitions", "ends", "crash_states"]
      : [
        "seeds", "requests", "answered", "events", "faults", "power_cuts", "kills", "resets", "failed_syncs",
        "durable_checked",
      ]
    totals = [Int](repeating: 0, count: names.count)
  }

  /// - Returns: whether nothing was found.
  func run() throws -> Bool {
    let jobs = command.jobs ?? ProcessInfo.processInfo.activeProcessorCount
    var shares: [RunningShare] = []
    for share in 0..<jobs { shares.append(try RunningShare(arguments(share, of: jobs))) }
    while !shares.isEmpty {
      var running: [RunningShare] = []
      for share in shares {
        for line in share.readLines() { take(line, share) }
        if share.hasEnded { end(share) } else { running.append(share) }
      }
      shares = running
      showProgress()
      Thread.sleep(forTimeInterval: 0.05)
    }
    conclude()
    return findings.isEmpty
  }

  private func arguments(_ share: Int, of jobs: Int) -> [String] {
    var arguments = ["--stride", "\(jobs)", "--share", "\(share)"]
    if let without = command.without { arguments += ["--without", without] }
    if command.exhaustive { return arguments + ["--exhaustive"] }
    arguments += ["--seeds", "\(command.seeds ?? 1)", "--from", "\(command.from)", "--requests", "\(command.requests)"]
    if command.powerCuts { arguments.append("--power-cuts") }
    arguments += command.fault.flatMap { ["--fault", $0] }
    return arguments
  }

  private func take(_ line: String, _ share: RunningShare) {
    let words = line.split(separator: " ", maxSplits: 2)
    switch words.first {
    case "begin": share.item = words.count > 1 ? UInt64(words[1]) : nil
    case "bad": if words.count > 2, let item = UInt64(words[1]) { report(item, String(words[2])) }
    case "end":
      for (index, word) in line.split(separator: " ").dropFirst().enumerated() where index < totals.count {
        totals[index] += Int(word) ?? 0
      }
      share.item = nil
    default: break
    }
  }

  private func end(_ share: RunningShare) {
    guard share.status != 0 else { return }
    report(share.item ?? 0, "the simulation crashed (status \(share.status)): \(share.errors)")
  }

  private func report(_ item: UInt64, _ what: String) {
    findings.append((item, what))
    guard !command.json else { return }
    print("\(command.exhaustive ? "workload" : "seed") \(item): VIOLATION: \(what)")
    if !command.exhaustive { print("  replay: holdfast-sim --seed \(item) --trace\(replayOptions)") }
  }

  private var replayOptions: String {
    (command.powerCuts ? " --power-cuts" : "") + (command.without.map { " --without \($0)" } ?? "")
      + (command.requests == 500 ? "" : " --requests \(command.requests)")
      + command.fault.map { " --fault '\($0)'" }.joined()
  }

  private func showProgress() {
    guard !command.json, isatty(2) != 0, Date().timeIntervalSince(lastProgress) > 1 else { return }
    lastProgress = Date()
    FileHandle.standardError.write(Data("\r\(totals[0]) \(names[0])  ".utf8))
  }

  private func conclude() {
    let seconds = Date().timeIntervalSince(start)
    if command.json {
      var object: [String: Any] = Dictionary(uniqueKeysWithValues: zip(names, totals))
      object["seconds"] = (seconds * 10).rounded() / 10
      object["violations"] = findings.map { ["item": $0.item, "what": $0.what] as [String: Any] }
      return print(jsonText(object))
    }
    let counts = zip(names, totals).map { "\($1) \($0.replacingOccurrences(of: "_", with: " "))" }.joined(
      separator: ", ")
    print("\(counts); \(Int(seconds.rounded())) s")
    print(findings.isEmpty ? "0 violations" : "\(findings.count) VIOLATIONS")
  }
}

/// One process.
final class RunningShare {
  private let process = Process()
  private let output = Pipe()
  private let errorFile: URL
  private var rest = Data()
  private var isAtEnd = false
  /// What it is at.
  var item: UInt64?

  init(_ arguments: [String]) throws {
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = arguments
    process.standardOutput = output
    errorFile = FileManager.default.temporaryDirectory.appendingPathComponent("holdfast-sim-\(UUID().uuidString)")
    _ = FileManager.default.createFile(atPath: errorFile.path, contents: nil)
    process.standardError = try FileHandle(forWritingTo: errorFile)
    try process.run()
    let descriptor = output.fileHandleForReading.fileDescriptor
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
  }

  deinit { try? FileManager.default.removeItem(at: errorFile) }

  func readLines() -> [String] {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(output.fileHandleForReading.fileDescriptor, &buffer, buffer.count)
      if count == 0 { isAtEnd = true }
      guard count > 0 else { break }
      rest += buffer[0..<count]
    }
    var lines: [String] = []
    while let end = rest.firstIndex(of: 10) {
      lines.append(String(decoding: rest[rest.startIndex..<end], as: UTF8.self))
      rest = rest[(end + 1)...]
    }
    return lines
  }

  var hasEnded: Bool { isAtEnd && !process.isRunning }

  var status: Int32 { process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus }

  var errors: String {
    let text = (try? String(contentsOf: errorFile, encoding: .utf8)) ?? ""
    return String(text.split(separator: "\n").prefix(3).joined(separator: " ").prefix(500))
  }
}
