// What an admin client may ask for, and how a line is understood (holdfast-admin(7)). Pure.

/// One command with the keys that it has. The names are those on the wire.
enum AdminCommand: String, CaseIterable, Sendable {
  case status
  case exportAdd = "export-add"
  case exportRemove = "export-remove"
  case exportResize = "export-resize"
  case exportPause = "export-pause"
  case exportResume = "export-resume"
  case exportShow = "export-show"
  case connectionKill = "connection-kill"
  case snapshot
  case clearError = "clear-error"
  case reload

  /// Everything else only looks.
  var changesSomething: Bool { self != .status }
}

/// One line that was understood. Its keys are not.
struct AdminRequest {
  var command: AdminCommand
  /// Comes back with the reply.
  var id: JSON?
  /// The keys of the command itself.
  var keys: [String: ConfigurationNode]

  /// Raised when a key changes its meaning or goes away.
  static let schema = 1

  /// - Throws: status 64 and what is wrong with the line. `id` is what came with it, as far as that could be read.
  init(parsing line: [UInt8], id: inout JSON?) throws(CommandFailure) {
    let json: JSON
    do throws(JSONMistake) { json = try JSON(parsing: line) } catch {
      throw CommandFailure(
        .usage, "the line cannot be read: \(error.clause); write one JSON object, such as {\"command\": \"status\"}")
    }
    guard case .table(var keys) = ConfigurationNode(json).value else {
      throw CommandFailure(.usage, "the line is no JSON object; write one, such as {\"command\": \"status\"}")
    }
    id = json["id"]
    self.id = id
    keys["id"] = nil
    if let schema = keys.removeValue(forKey: "schema") {
      guard case .integer(AdminRequest.schema) = schema.value else {
        throw CommandFailure(
          .usage,
          "this daemon speaks schema \(AdminRequest.schema); leave \"schema\" out, or write \(AdminRequest.schema)")
      }
    }
    let names = AdminCommand.allCases.map(\.rawValue)
    guard let name = keys.text("command") else {
      throw CommandFailure(.usage, "\"command\" is missing; it is one of \(names.joined(separator: ", "))")
    }
    guard let command = AdminCommand(rawValue: name) else {
      let guess = closest(to: name, in: names).map { "did you mean \"\($0)\"?" }
      throw CommandFailure(
        .usage, "there is no command \"\(name)\"; \(guess ?? "it is one of \(names.joined(separator: ", "))")")
    }
    keys["command"] = nil
    self.command = command
    self.keys = keys
  }
}

extension AdminRequest {
  /// Reads the keys with `body`, and refuses those that it did not ask for.
  func read<Value>(_ body: (inout TableReader) -> Value?) throws(CommandFailure) -> Value {
    let mistakes = MistakeList()
    var table = TableReader("", keys, line: 1, mistakes)
    let value = body(&table)
    table.finish()
    guard let value, mistakes.mistakes.isEmpty else {
      throw CommandFailure(.usage, mistakes.mistakes.map(\.text).sorted().joined(separator: "; "))
    }
    return value
  }
}

extension TableReader {
  /// A string that has to be there.
  mutating func requiredString(_ key: String) -> String? {
    if !has(key) { mistake(1, "\"\(key)\" is missing") }
    return string(key)?.value
  }
}

/// The line that answers.
enum AdminReply {
  static func success(_ result: JSON, id: JSON?) -> JSON {
    line("ok", true, "result", result, id)
  }

  static func failure(_ failure: CommandFailure, id: JSON?) -> JSON {
    let error: JSON = ["status": JSON(Int64(failure.status.rawValue)), "message": .string(failure.message)]
    return line("ok", false, "error", error, id)
  }

  private static func line(_ name: String, _ isSuccess: Bool, _ part: String, _ value: JSON, _ id: JSON?) -> JSON {
    var members = [
      JSON.Member(name: "schema", value: .integer(AdminRequest.schema)),
      JSON.Member(name: name, value: .boolean(isSuccess)),
    ]
    if let id { members.append(JSON.Member(name: "id", value: id)) }
    members.append(JSON.Member(name: part, value: value))
    return .object(members)
  }
}

extension CommandFailure {
  /// The lines without the word that stands in front of them on a terminal.
  var message: String {
    lines.map { $0.hasPrefix("error: ") ? String($0.dropFirst("error: ".count)) : $0 }.joined(separator: "\n")
  }
}
