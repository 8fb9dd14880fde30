// What sweeps have shown: tables, pictures, JSON. Pure.

struct SweepReport {
  var options: SweepOptions
  var machine: Machine
  var results: SweepResults

  private var sweeps: [Sweep] { Sweep.allCases.filter { results.lines[$0] != nil } }

  /// How and where, for the reader of the tables.
  var origin: String {
    "`\(options.command)`: \(options.rounds) rounds, medians.\n\n"
      + machine.facts.map { "- \($0.name): \($0.value)\n" }.joined()
  }

  func table(_ sweep: Sweep) -> String {
    let lines = results.lines[sweep] ?? []
    let cpu = sweep.cpuUnit.map { " / CPU us \($0 == "operation" ? "an" : $0 == "extent" ? "an" : "a") \($0)" } ?? ""
    var table = Table([sweep.x.label] + lines.map { "\($0): \(sweep.unit)\(cpu)" })
    for x in results.values(sweep) {
      let cells = lines.map { line in
        guard let value = results.summary(sweep, line, x, \.value) else { return "-" }
        let cost = results.summary(sweep, line, x, \.cpuMicrosecondsPerOperation).map { " / \(brief($0.median))" }
        return brief(value.median) + (cost ?? "")
      }
      table.rows.append([sweep.x.text(Double(x))] + cells)
    }
    return table.text
  }

  /// By file name without suffix.
  var pictures: [(name: String, plot: Plot)] {
    sweeps.flatMap { sweep in
      var pictures: [(String, Plot)] = []
      let speed = sweep.unit == "op/s" ? "requests per second" : sweep.unit == "ms" ? "milliseconds" : sweep.unit
      let scale: Axis.Scale =
        switch sweep {
        case .depth, .connections, .idle, .size: .linear
        case .sizeMap, .extents, .locks: .decimal
        }
      pictures.append(
        (sweep.rawValue, plot(sweep, sweep.title, Axis(label: speed, scale: scale)) { $0.value }))
      if let unit = sweep.cpuUnit {
        let axis = Axis(label: "server CPU, microseconds for each \(unit)", scale: .decimal)
        pictures.append(
          (sweep.rawValue + "-cpu", plot(sweep, sweep.title, axis) { $0.cpuMicrosecondsPerOperation }))
      }
      return pictures
    }
  }

  /// Latency over throughput, a point for each value of the sweep.
  func latencyOverLoad(_ sweep: Sweep) -> Plot {
    let lines = (results.lines[sweep] ?? []).map { line in
      Plot.Line(
        name: line,
        points: results.values(sweep).compactMap { x in
          guard let load = results.summary(sweep, line, x, \.value),
            let latency = results.summary(sweep, line, x, \.p99Microseconds)
          else { return nil }
          return (load.median, latency.median)
        }, isOurs: isOurs(line))
    }
    return Plot(
      title: "\(sweep.title): 99th percentile of latency over load", x: Axis(label: "requests per second"),
      y: Axis(label: "microseconds", scale: .decimal), lines: lines)
  }

  private func plot(_ sweep: Sweep, _ title: String, _ y: Axis, _ value: (Sample) -> Double?) -> Plot {
    let lines = (results.lines[sweep] ?? []).map { line in
      Plot.Line(
        name: line,
        points: results.values(sweep).compactMap { x in
          // A processor time of less than a tick is no point of a logarithmic axis.
          guard let median = results.summary(sweep, line, x, value)?.median, median > 0 else { return nil }
          return (Double(x), median)
        }, isOurs: isOurs(line))
    }
    return Plot(title: title, x: sweep.x, y: y, lines: lines)
  }

  private func isOurs(_ line: String) -> Bool { line.hasPrefix("holdfast") || line == "range lock table" }

  var json: String {
    let all: [JSON] = sweeps.map { sweep in
      let lines: [JSON] = (results.lines[sweep] ?? []).map { line in
        let points: [JSON] = results.values(sweep).map { x in
          let samples = results.samples[sweep]?[line]?[x] ?? []
          let quantities: [(String, (Sample) -> Double?)] = [
            ("value", \.value), ("cpuMicroseconds", \.cpuMicrosecondsPerOperation),
            ("p50Microseconds", \.p50Microseconds), ("p99Microseconds", \.p99Microseconds),
          ]
          let members = quantities.compactMap { name, value -> (String, JSON)? in
            let numbers = samples.compactMap(value)
            return numbers.isEmpty ? nil : (name, .list(numbers.map(JSON.number)))
          }
          return .members([("x", .number(Double(x)))] + members)
        }
        return .members([("name", .text(line)), ("points", .list(points))])
      }
      return .members([
        ("name", .text(sweep.rawValue)), ("title", .text(sweep.title)), ("x", .text(sweep.x.label)),
        ("unit", .text(sweep.unit)), ("lines", .list(lines)),
      ])
    }
    let document = JSON.members([
      ("schema", .number(1)), ("command", .text(options.command)), ("rounds", .number(Double(options.rounds))),
      ("machine", .members(machine.facts.map { ($0.name, .text($0.value)) })), ("sweeps", .list(all)),
    ])
    return document.text() + "\n"
  }
}
