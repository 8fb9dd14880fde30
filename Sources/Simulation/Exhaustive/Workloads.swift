// Everything that is small: which workloads the exhaustive mode explores.

import NBDProtocol

extension Exploration {
  /// One request on blocks of a byte each.
  struct SmallRequest: Sendable, Equatable {
    var command: Command
    var flags: CommandFlags
    var blocks: Range<Int>

    var needsSync: Bool { command == .flush || (flags.contains(.fua) && command.rule.changesData) }
  }

  /// What each of two clients sends, in order, each request as soon as it likes.
  package struct Workload: Sendable {
    var clients: [[SmallRequest]]
    /// How many system calls or syncs fail, whichever they are.
    var failures = 0

    package var hasFailures: Bool { failures > 0 }
    /// How many of the requests end with a sync.
    package var syncCount: Int { requests.count { $0.needsSync } }

    /// All requests, those of the first client first.
    var requests: [SmallRequest] { clients.flatMap { $0 } }
  }

  static let blockCount = 3
  private static let ranges: [Range<Int>] = [0..<1, 1..<2, 2..<3, 0..<2, 1..<3, 0..<3]

  /// {WRITE, TRIM, WRITE_ZEROES, READ, BLOCK_STATUS} on six ranges, and FLUSH.
  private static let plain: [SmallRequest] =
    [Command.write, .trim, .writeZeroes, .read, .blockStatus].flatMap { command in
      ranges.map { SmallRequest(command: command, flags: [], blocks: $0) }
    } + [SmallRequest(command: .flush, flags: [], blocks: 0..<0)]

  /// The same with every set of flags that is valid for the command.
  private static let flagged: [SmallRequest] = plain.flatMap { request in
    let known: [CommandFlags] =
      [.fua]
      + [.noHole, .fastZero, .dontFragment, .reqOne].filter {
        request.command.rule.flags.contains($0)
      }
    return (0..<1 << known.count).map { choice in
      var request = request
      for (bit, flag) in known.enumerated() where choice & (1 << bit) != 0 { request.flags.insert(flag) }
      return request
    }
  }

  /// One request and two with every flag, three without: by one client or shared between two. Which of the two clients is the
  /// first makes no difference, so each pair of mirror images is here once. One and two also with any one call failing.
  package static let workloads: [Workload] = {
    var all: [Workload] = []
    for failures in 0...1 {
      all += flagged.map { Workload(clients: [[$0], []], failures: failures) }
      for (index, first) in flagged.enumerated() {
        for (other, second) in flagged.enumerated() {
          all.append(Workload(clients: [[first, second], []], failures: failures))
          if other >= index { all.append(Workload(clients: [[first], [second]], failures: failures)) }
        }
      }
    }
    for first in plain {
      for second in plain {
        for third in plain {
          all.append(Workload(clients: [[first, second, third], []]))
          all.append(Workload(clients: [[first, second], [third]]))
        }
      }
    }
    return all
  }()
}

extension Exploration.Workload: CustomStringConvertible {
  package var description: String {
    clients.enumerated().map { (client, requests) -> String in
      let texts = requests.map {
        "\($0.command) \($0.blocks.lowerBound)..<\($0.blocks.upperBound) flags \($0.flags.rawValue)"
      }
      return "client \(client): \(texts.joined(separator: ", "))"
    }.joined(separator: "; ") + (failures > 0 ? "; \(failures) call fails" : "")
  }
}
