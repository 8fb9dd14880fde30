// What disturbances have shown, as Markdown and as JSON. Pure.

struct DisturbanceReport {
  /// A neighbour may make the 99th percentile this much longer.
  static let limit = 3.0

  var options: DisturbanceOptions
  var machine: Machine
  var results: DisturbanceResults

  var markdown: String {
    var text = "# Disturbance\n\n"
    text +=
      "`\(options.command)`: the 99th percentile of the latency of cached 4 KiB reads on one connection, alone and "
    text += "beside a neighbour on another connection of the same server and image; \(options.rounds) rounds, medians, "
    text += "the ratio with the least and the most of the rounds. Limit of the ratio: \(brief(Self.limit)).\n\n"
    if options.elsewhere {
      text +=
        "Elsewhere: the ratio while the neighbour is on a second server with an image of its own, what it costs by "
      text += "taking processors and disk alone.\n\n"
    }
    text += machine.facts.map { "- \($0.name): \($0.value)\n" }.joined()
    text += "\n" + table.text + "\n" + verdict
    for failure in results.failures {
      let reason = failure.reason.split(separator: "\n").first ?? ""
      text += "- not measured: \(failure.item.server.rawValue), \(failure.item.neighbour.rawValue): \(reason)\n"
    }
    return text
  }

  var table: Table {
    var table = Table([
      "file system, server, reads", "neighbour", "its requests", "p50 alone us", "p50 beside it", "p99 alone us",
      "p99 beside it", "ratio of p99", "elsewhere",
    ])
    for item in results.order {
      guard let ratio = results.summary(item, \.ratio) else { continue }
      func median(_ value: (DisturbanceSample) -> Double?) -> String {
        results.summary(item, value).map { brief($0.median) } ?? "-"
      }
      table.rows.append([
        "\(item.fileSystem), \(item.server.rawValue), QD\(item.depth)", item.neighbour.rawValue,
        median(\.neighbourRequests), median(\.aloneMiddle), median(\.disturbedMiddle), median(\.aloneMicroseconds),
        median(\.disturbedMicroseconds),
        "\(fixed(ratio.median, 2)) (\(fixed(ratio.least, 2))-\(fixed(ratio.most, 2)))"
          + (ratio.median > Self.limit ? " (!)" : ""),
        results.summary(item, \.elsewhereRatio).map { fixed($0.median, 2) } ?? "-",
      ])
    }
    return table
  }

  var verdict: String {
    let own = results.order.filter { $0.server == .holdfast }
    let within = own.count { (results.summary($0, \.ratio)?.median ?? .infinity) <= Self.limit }
    return "- holdfast: within the limit in \(within) of \(own.count)\n"
  }

  var json: String {
    let cases: [JSON] = results.order.map { item in
      let samples = results.samples[item] ?? []
      func numbers(_ value: (DisturbanceSample) -> Double) -> JSON { .list(samples.map { .number(value($0)) }) }
      return .members([
        ("fileSystem", .text(item.fileSystem)), ("server", .text(item.server.rawValue)),
        ("neighbour", .text(item.neighbour.rawValue)), ("depth", .number(Double(item.depth))),
        ("ratio", .number(results.summary(item, \.ratio)?.median ?? .nan)),
        ("p99AloneMicroseconds", numbers(\.aloneMicroseconds)),
        ("p99DisturbedMicroseconds", numbers(\.disturbedMicroseconds)),
        ("p50AloneMicroseconds", numbers(\.aloneMiddle)), ("p50DisturbedMicroseconds", numbers(\.disturbedMiddle)),
        ("p99ElsewhereMicroseconds", .list(samples.compactMap(\.elsewhereMicroseconds).map(JSON.number))),
        ("neighbourRequests", numbers(\.neighbourRequests)),
      ])
    }
    let document = JSON.members([
      ("schema", .number(1)), ("command", .text(options.command)), ("rounds", .number(Double(options.rounds))),
      ("limit", .number(Self.limit)), ("machine", .members(machine.facts.map { ($0.name, .text($0.value)) })),
      ("cases", .list(cases)),
    ])
    return document.text() + "\n"
  }
}
