// What a run has shown, as Markdown and as JSON. Pure.

struct Report {
  var options: BenchOptions
  var machine: Machine
  var results: BenchResults

  private var servers: [ServerKind] { options.servers }

  // MARK: Markdown

  var markdown: String {
    var text = "# Benchmarks\n\n"
    text +=
      "`\(options.command)`: \(options.rounds) rounds, each server started afresh for each measurement, in an order "
    text += "that rotates; medians, with the least and the most of the rounds in parentheses. "
    if options.rounds > 2, !options.measuresAll {
      text +=
        "A peer that was out of reach in the first two rounds of a case (less than 2/3 as fast as the best and more "
      text += "than 3/2 as dear as the cheapest), and what is only shown, has two rounds there. "
    }
    text += "Only ratios within one run mean anything.\n\n"
    text += machine.facts.map { "- \($0.name): \($0.value)\n" }.joined()
    text += "- others on the processors: \(quietness)\n"
    text += "\n## Holdfast and the best peer\n\nRatio: to the best peer of the case, above 1 is better. CPU: of the "
    text += "server per operation in microseconds, and its ratio to the cheapest peer, below 1 is cheaper.\n\n"
    text += "(!) below the floor, * goal reached.\n\n"
    text += verdicts.text + "\n" + floors
    text += "\n## Speed of every server\n\nRelative to the best peer; above 1 is faster. Not counted as peers: "
    text += "nbd-server-splice, except on read-only exports (on a writable one its replies can mix old and new data), "
    text += "and null, which touches no file and shows what the generator and the sockets cost.\n\n"
    text += ratios { verdict, item, summary in
      item.unit.ratio(summary.median, to: verdict.best.summary.median)
    } value: {
      $0.value
    }
    text += "\n## CPU per operation of every server\n\nRelative to the cheapest peer; below 1 is cheaper.\n\n"
    text += ratios { verdict, _, summary in
      verdict.cheapest.map { summary.median / $0.summary.median }
    } value: {
      $0.cpuMicrosecondsPerOperation
    }
    text += "\n## Latency\n\nMicroseconds: median / 99th percentile, medians of the rounds.\n\n" + latencies
    if options.cases.count == Case.all.count {
      text += "\n## Curves\n\nFrom a run of their own, `holdfast-bench curves`; figures in curves/curves.json.\n\n"
      for name in ["depth", "connections", "latency-over-load-depth", "latency-over-load-connections"] {
        text += "![\(name)](curves/\(name).svg)\n"
      }
    }
    text += "\n## Command lines\n\n"
    for kind in servers { text += results.commandLines[kind].map { "- \(kind.rawValue): `\($0)`\n" } ?? "" }
    if !results.failures.isEmpty {
      text += "\n## Not measured\n\n"
      for failure in results.failures {
        let reason = failure.reason.split(separator: "\n").first ?? ""
        text += "- \(failure.item), \(failure.server.rawValue): \(reason)\n"
      }
    }
    return text
  }

  /// What took the processors from the measurements; much of it makes them worthless.
  var quietness: String {
    let shares = results.samples.values.flatMap(\.values).joined().compactMap(\.othersPercent).sorted()
    guard let summary = Summary(shares) else { return "unknown" }
    let much = shares.count { $0 > 10 }
    return "median \(fixed(summary.median, 1)) % of them, more than 10 % in \(much) of \(shares.count) measurements"
  }

  /// The main table; printed at the end of a run, too.
  var verdicts: Table {
    var table = Table([
      "case", "holdfast", "best peer", "ratio", "floor", "goal", "CPU", "cheapest peer", "CPU ratio", "CPU goal",
    ])
    for item in options.cases {
      guard let verdict = Verdict(item, results) else { continue }
      let mark = verdict.ratio < item.floor ? " (!)" : verdict.ratio >= item.goal ? " *" : ""
      let cheapest = verdict.cheapest.map { "\($0.kind.rawValue) \(brief($0.summary.median))" }
      let isCheap = (verdict.cpuRatio ?? .infinity) <= (item.cpuGoal ?? 0)
      table.rows.append([
        item.name, spread(verdict.ours, item.unit),
        "\(verdict.best.kind.rawValue) \(spread(verdict.best.summary, item.unit))",
        fixed(verdict.ratio, 2) + mark, brief(item.floor), brief(item.goal),
        verdict.ourCPU.map { brief($0.median) } ?? "-",
        cheapest ?? "-", verdict.cpuRatio.map { fixed($0, 2) + (isCheap ? " *" : "") } ?? "-",
        item.cpuGoal.map(brief) ?? "-",
      ])
    }
    return table
  }

  /// How many floors hold and how many goals are reached, and which are not; a line each.
  var floors: String {
    let verdicts = options.cases.compactMap { item in Verdict(item, results).map { (item, $0) } }
    func line(_ what: String, _ judged: [(name: String, holds: Bool, says: String)]) -> String {
      let missed = judged.filter { !$0.holds }.map { "\($0.name) \($0.says)" }
      let held = "- \(what): \(judged.count - missed.count) of \(judged.count)"
      return held + (missed.isEmpty ? "" : "; not: " + missed.joined(separator: ", ")) + "\n"
    }
    let floors = verdicts.map { item, verdict in
      (item.name, verdict.ratio >= item.floor, "\(fixed(verdict.ratio, 2)) of \(brief(item.floor))")
    }
    let goals = verdicts.map { item, verdict in
      (item.name, verdict.ratio >= item.goal, "\(fixed(verdict.ratio, 2)) of \(brief(item.goal))")
    }
    let cpuGoals = verdicts.compactMap { item, verdict -> (name: String, holds: Bool, says: String)? in
      guard let ratio = verdict.cpuRatio, let goal = item.cpuGoal else { return nil }
      return (item.name, ratio <= goal, "\(fixed(ratio, 2)) of \(brief(goal))")
    }
    return line("floors held", floors) + line("goals reached", goals) + line("CPU goals reached", cpuGoals)
  }

  private func spread(_ summary: Summary, _ unit: Unit) -> String {
    "\(brief(summary.median)) \(unit.rawValue) (\(brief(summary.least))-\(brief(summary.most)))"
  }

  private func ratios(
    _ ratio: (Verdict, Case, Summary) -> Double?, value: (Sample) -> Double?
  ) -> String {
    var table = Table(["case"] + servers.map(\.rawValue))
    for item in options.cases {
      guard let verdict = Verdict(item, results) else { continue }
      let cells = servers.map { kind in
        results.summary(item, kind, value).flatMap { ratio(verdict, item, $0) }.map { fixed($0, 2) } ?? "-"
      }
      if cells.contains(where: { $0 != "-" }) { table.rows.append([item.name] + cells) }
    }
    return table.text
  }

  private var latencies: String {
    var table = Table(["case"] + servers.map(\.rawValue))
    for item in options.cases {
      let cells = servers.map { kind in
        guard let middle = results.summary(item, kind, \.p50Microseconds),
          let late = results.summary(item, kind, \.p99Microseconds)
        else { return "-" }
        return "\(brief(middle.median)) / \(brief(late.median))"
      }
      if cells.contains(where: { $0 != "-" }) { table.rows.append([item.name] + cells) }
    }
    return table.text
  }

  // MARK: JSON

  var json: String {
    let cases: [JSON] = options.cases.map { item in
      var members: [(String, JSON)] = [
        ("name", .text(item.name)), ("unit", .text(item.unit.rawValue)), ("floor", .number(item.floor)),
        ("goal", .number(item.goal)),
      ]
      if let goal = item.cpuGoal { members.append(("cpuGoal", .number(goal))) }
      if let verdict = Verdict(item, results) {
        members.append(("bestPeer", .text(verdict.best.kind.rawValue)))
        members.append(("ratio", .number(verdict.ratio)))
        if let cheapest = verdict.cheapest { members.append(("cheapestPeer", .text(cheapest.kind.rawValue))) }
        if let ratio = verdict.cpuRatio { members.append(("cpuRatio", .number(ratio))) }
      }
      let measured = servers.compactMap { kind in
        results.samples[item.name]?[kind].map { (kind.rawValue, JSON.members(rounds($0))) }
      }
      return .members(members + [("servers", .members(measured))])
    }
    let failures = results.failures.map {
      JSON.members([("case", .text($0.item)), ("server", .text($0.server.rawValue)), ("reason", .text($0.reason))])
    }
    let document = JSON.members([
      ("schema", .number(1)), ("command", .text(options.command)), ("rounds", .number(Double(options.rounds))),
      ("machine", .members(machine.facts.map { ($0.name, .text($0.value)) })),
      (
        "commandLines",
        .members(servers.compactMap { kind in results.commandLines[kind].map { (kind.rawValue, .text($0)) } })
      ),
      ("cases", .list(cases)), ("failures", .list(failures)),
    ])
    return document.text() + "\n"
  }

  /// One list for each quantity, a number for each round.
  private func rounds(_ samples: [Sample]) -> [(String, JSON)] {
    let quantities: [(String, (Sample) -> Double?)] = [
      ("value", \.value), ("cpuMicrosecondsPerOperation", \.cpuMicrosecondsPerOperation),
      ("clientMicrosecondsPerOperation", \.clientMicrosecondsPerOperation), ("p50Microseconds", \.p50Microseconds),
      ("p99Microseconds", \.p99Microseconds), ("othersPercent", \.othersPercent),
    ]
    return quantities.compactMap { name, value in
      let numbers = samples.compactMap(value)
      return numbers.isEmpty ? nil : (name, .list(numbers.map(JSON.number)))
    }
  }
}
