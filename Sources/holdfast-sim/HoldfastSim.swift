// The simulation as a command: one seed with its trace, a campaign over many, or everything that is small.

import ArgumentParser
import BlockBackend
import Faults
import Foundation
import Simulation

@main struct HoldfastSim: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "holdfast-sim",
    abstract:
      "Simulates the server, its clients, its network and its disk from a seed, and judges what the clients saw.",
    discussion: """
      Exit status 0: nothing was found; 1: a violation. A seed does the same every time: what a campaign found is looked at
      with --seed N --trace.
      """)

  @ArgumentParser.Option(help: "Run this seed.")
  var seed: UInt64?
  @ArgumentParser.Option(help: "Run so many seeds.")
  var seeds: Int?
  @ArgumentParser.Option(help: "The first seed of a campaign.")
  var from: UInt64 = 1
  @ArgumentParser.Option(help: "Processes to use (default: one for each CPU).")
  var jobs: Int?
  @ArgumentParser.Option(help: "Requests of each seed, at least.")
  var requests = 500
  @Flag(help: "Print every event (with --seed).")
  var trace = false
  @Flag(help: "Cut power in every seed.")
  var powerCuts = false
  @Flag(
    help:
      "All workloads of up to three operations on three blocks, in every order, with every crash; with every flag for two."
  )
  var exhaustive = false
  @ArgumentParser.Option(help: "Take this guard of an invariant out (debug builds only).")
  var without: String?
  @ArgumentParser.Option(
    help: "Make calls on the image go wrong (repeatable), written as for holdfast serve: write:error=EIO,nth=3.")
  var fault: [String] = []
  @Flag(help: "Print the result as JSON.")
  var json = false

  /// What a campaign starts its processes with.
  @ArgumentParser.Option(help: .hidden)
  var stride: Int?
  @ArgumentParser.Option(help: .hidden)
  var share = 0

  func validate() throws {
    let modes = [seed != nil, seeds != nil, exhaustive].count { $0 }
    guard modes == 1 else { throw ValidationError("Say one of --seed, --seeds and --exhaustive.") }
    if let seeds, seeds < 1 { throw ValidationError("--seeds is at least 1.") }
    if let jobs, jobs < 1 { throw ValidationError("--jobs is at least 1.") }
    guard requests > 0 else { throw ValidationError("--requests is at least 1.") }
    _ = try guards()
    _ = try faults()
    guard fault.isEmpty || !exhaustive else {
      throw ValidationError("--fault is for seeds; the exhaustive mode lets any one call fail.")
    }
  }

  private func faults() throws -> [FaultRule] {
    var rules: [FaultRule] = []
    for text in fault {
      do throws(FaultRuleMistake) { rules.append(try FaultRule(parsing: text)) } catch {
        throw ValidationError("--fault: \(error.clause)")
      }
    }
    return rules
  }

  private func guards() throws -> GuardSwitches {
    guard let without else { return .allStand }
    guard let named = Guard.allCases.first(where: { "\($0)" == without }) else {
      throw ValidationError("--without is one of \(Guard.allCases.map { "\($0)" }.joined(separator: ", ")).")
    }
    #if GUARD_SWITCHES
    return GuardSwitches(without: named)
    #else
    throw ValidationError(
      "\(named) can only be taken out in a debug build: swift run holdfast-sim --without \(named) ...")
    #endif
  }

  func run() throws {
    var options = SimulationOptions()
    options.requestsMin = requests
    options.cutsPower = powerCuts
    options.guards = try guards()
    options.faults = try faults()
    if stride != nil { return Share(self).run(options) }
    if let seed {
      let report = Simulator(options).run(seed: seed, trace: trace ? { print($0) } : nil)
      print(json ? report.json : report.text)
      throw ExitCode(report.finding == nil ? 0 : 1)
    }
    let campaign = Campaign(self)
    throw ExitCode(try campaign.run() ? 0 : 1)
  }
}

extension SeedReport {
  var text: String {
    let counts =
      "\(requests) requests of \(clients) clients, \(answered) answered; \(steps) events, \(faults) faulty calls, "
      + "\(powerCuts) power cuts, \(kills) kills, \(resets) resets; digest \(String(digest, radix: 16))"
    guard let finding else { return "seed \(seed): nothing found: \(counts)" }
    return "seed \(seed): VIOLATION of \(finding.rule): \(finding.what)\n  \(counts)"
  }

  var json: String {
    var object: [String: Any] = [
      "seed": seed, "requests": requests, "answered": answered, "clients": clients, "events": steps, "faults": faults,
      "power_cuts": powerCuts, "kills": kills, "resets": resets, "failed_syncs": failedSyncs,
      "durable_checked": durableChecked, "digest": String(digest, radix: 16), "violation": finding != nil,
    ]
    if let finding {
      object["rule"] = finding.rule
      object["what"] = finding.what
    }
    return jsonText(object)
  }
}

func jsonText(_ object: [String: Any]) -> String {
  let data = try? JSONSerialization.data(withJSONObject: object, options: [.sortedKeys])
  return data.map { String(decoding: $0, as: UTF8.self) } ?? "{}"
}
