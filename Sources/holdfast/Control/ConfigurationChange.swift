// What a new configuration changes, compared with what is served. Pure.

import NBDServerCore

/// An export that is served, as far as a comparison goes.
struct RunningExport: Equatable {
  var plan: ExportPlan
  /// It also answers to the empty name.
  var isDefault: Bool
  /// False: an operator added it to the running server, and no configuration takes it away.
  var isConfigured: Bool
}

/// The steps from what is served to a new configuration. Every export of either is in one of them.
struct ConfigurationChange: Equatable {
  var added: [ExportPlan] = []
  /// By name.
  var removed: [String] = []
  /// What clients are not told: done to the export as it is.
  var changed: [ExportPlan] = []
  /// What clients were told: a new export takes the name, and the old one goes with its last client.
  var replaced: [ExportPlan] = []
  var unchanged: [String] = []
  /// Changes that a running server cannot make; a sentence each.
  var notices: [String] = []

  /// - Parameters:
  ///   - old: what was read last.
  ///   - stale: exports whose path names another file by now.
  init(from running: [RunningExport], _ old: ServePlan, to new: ServePlan, stale: Set<String> = []) {
    let present = Dictionary(running.map { ($0.plan.name, $0) }, uniquingKeysWith: { first, _ in first })
    for plan in new.exports {
      guard let now = present[plan.name] else {
        added.append(plan)
        continue
      }
      if !now.plan.tellsTheSame(as: plan) || stale.contains(plan.name) {
        replaced.append(plan)
      } else if now.plan != plan || now.isDefault != (plan.name == new.defaultExport) || !now.isConfigured {
        changed.append(plan)
        if let size = plan.createdSize, now.plan.createdSize != size {
          notices.append(
            "export \"\(plan.name)\": \"size\" is for images that are made; to make this one larger: holdfast export resize"
          )
        }
      } else {
        unchanged.append(plan.name)
      }
    }
    let names = Set(new.exports.map(\.name))
    for each in running where !names.contains(each.plan.name) {
      if each.isConfigured { removed.append(each.plan.name) } else { unchanged.append(each.plan.name) }
    }
    for (setting, before) in zip(new.fixedSettings, old.fixedSettings) where setting.value != before.value {
      notices.append("\(setting.name) has changed, which takes a restart")
    }
  }

  var isNothing: Bool { added.isEmpty && removed.isEmpty && changed.isEmpty && replaced.isEmpty }
}

extension ExportPlan {
  /// Clients that are connected have been told nothing else (I9), and it is the same image.
  func tellsTheSame(as other: ExportPlan) -> Bool {
    path == other.path && isReadOnly == other.isReadOnly && faults == other.faults
      && terms.window == other.terms.window && terms.blockSizes == other.terms.blockSizes
  }
}

extension ServePlan {
  /// What is decided when the server starts: the name of each key, and its value in words, to be compared.
  var fixedSettings: [(name: String, value: String)] {
    [
      ("[server] listen", listeners.map { "\($0)" }.joined(separator: " ")),
      ("[server] socket-mode", String(socketMode.bits, radix: 8)),
      ("[server] allow-plaintext", "\(allowsPlaintext)"),
      ("[server] max-connections", "\(connectionsMax)"),
      ("[server] spin", "\(spins)"),
      ("[admin] socket", admin.socket ?? ""),
      ("[metrics] listen", metrics.listeners.map { "\($0)" }.joined(separator: " ")),
      ("[log] format", log.style?.rawValue ?? "auto"),
      ("[log] level", "\(log.level ?? .info)"),
      ("[log] slow-operation", log.slowOperationMilliseconds.map(String.init) ?? "off"),
    ]
  }
}
