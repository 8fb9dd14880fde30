// How a fault rule is written: CALLS:PART,PART,...
//
//     write:error=EIO,nth=3                    sync:lose
//     read:delay=200ms,range=1M-2M             write+allocate:enospc-until-trimmed
//     write:short=512,probability=10%,seed=7   any:delay=5ms
//
// Every mistake is a clause that says what was read and what to write instead.

import BlockBackend
import SystemPackage

/// A rule that is not one: a clause that follows the name of what was read.
package struct FaultRuleMistake: Error, Equatable {
  package var clause: String
}

extension FaultRule {
  package init(parsing text: String) throws(FaultRuleMistake) {
    guard let colon = text.firstIndex(of: ":"), colon != text.startIndex else {
      throw FaultRuleMistake(clause: "\"\(text)\" names no call; write CALLS:FAULT, such as write:error=EIO")
    }
    self.init(text: text, kinds: try callKinds(text[..<colon], of: text))
    var seen: Set<Substring> = []
    for part in text[text.index(after: colon)...].split(separator: ",", omittingEmptySubsequences: false) {
      let (key, value) = keyAndValue(part)
      guard seen.insert(key).inserted else {
        throw FaultRuleMistake(clause: "\"\(text)\" has \(key) twice; leave one out")
      }
      try read(key, value)
    }
    try check(seen)
  }

  private mutating func read(_ key: Substring, _ value: Substring?) throws(FaultRuleMistake) {
    switch key {
    case "error": try add(.fail(try errno(try needed(value, key, "EIO"))))
    case "short": try add(.short(bytes: try bytes(try needed(value, key, "512"))))
    case "lose": try add(.lose, without: value, key)
    case "enospc-until-trimmed": try add(.fullUntilTrimmed, without: value, key)
    case "delay": delay = try time(try needed(value, key, "200ms"))
    case "nth": nth = try count(try needed(value, key, "3"), key)
    case "times": timesMax = try count(try needed(value, key, "3"), key)
    case "seed": seed = try number(try needed(value, key, "7"), key)
    case "probability": probability = try probability(try needed(value, key, "10%"))
    case "range": range = try range(try needed(value, key, "1M-2M"))
    default:
      throw mistake(
        "\"\(key)\"",
        "is not known; write error, delay, short, lose, enospc-until-trimmed, nth, times, range, probability or seed")
    }
  }

  private mutating func add(_ effect: Effect) throws(FaultRuleMistake) {
    guard self.effect == .none else {
      throw FaultRuleMistake(
        clause: "\"\(text)\" wants two faults in one call; give two rules, or leave one out")
    }
    self.effect = effect
  }

  private mutating func add(
    _ effect: Effect, without value: Substring?, _ key: Substring
  ) throws(FaultRuleMistake) {
    guard value == nil else { throw mistake("\"\(key)\"", "takes no value; write \(key)") }
    try add(effect)
  }

  // MARK: What does not go together

  private mutating func check(_ seen: Set<Substring>) throws(FaultRuleMistake) {
    switch effect {
    case .none:
      guard delay != nil else {
        throw FaultRuleMistake(
          clause:
            "\"\(text)\" says when, but not what; add error=EIO, delay=200ms, short=512, lose or enospc-until-trimmed"
        )
      }
    case .fail(.interrupted):
      // With a probability nth says from where on, not how often.
      let isOnce = seen.contains("nth") && !seen.contains("probability")
      guard timesMax != nil || isOnce || probability < 1 else {
        throw FaultRuleMistake(clause: "\"\(text)\" never ends: after EINTR a call is tried again; add times=3")
      }
    case .fail: break
    case .short: try narrow("is not done in parts; short is for read, write, trim and zero", \.hasLength)
    case .lose: try narrow("changes nothing that could be lost; lose is for write, trim, zero and sync", \.changes)
    case .fullUntilTrimmed:
      try narrow("needs no space; enospc-until-trimmed is for write, allocate and zero") {
        $0.changes && !$0.frees && $0 != .sync
      }
    }
    if range != nil { try narrow("has no place in the image; leave range out") { $0 != .sync } }
    if seen.contains("seed"), !seen.contains("probability") {
      throw FaultRuleMistake(clause: "\"\(text)\" has a seed and nothing to draw; add probability=10%, or leave it out")
    }
    // What is to happen to the nth call happens to that one, and a full image gets full once, unless it says how often.
    let isOnce = seen.contains("nth") || effect == .fullUntilTrimmed
    if timesMax == nil, isOnce, !seen.contains("probability") { timesMax = 1 }
  }

  /// Leaves the calls that `isSuitable`; one at least has to be left.
  private mutating func narrow(
    _ why: String, _ isSuitable: (FileCall.Kind) -> Bool
  ) throws(FaultRuleMistake) {
    kinds = kinds.filter(isSuitable)
    if kinds.isEmpty { throw FaultRuleMistake(clause: "\"\(text.prefix { $0 != ":" })\" in \"\(text)\" \(why)") }
  }

  // MARK: Values

  private func mistake(_ what: String, _ why: String) -> FaultRuleMistake {
    FaultRuleMistake(clause: "\(what) in \"\(text)\" \(why)")
  }

  private func needed(
    _ value: Substring?, _ key: Substring, _ example: String
  ) throws(FaultRuleMistake) -> Substring {
    guard let value, !value.isEmpty else { throw mistake("\"\(key)\"", "has no value; write \(key)=\(example)") }
    return value
  }

  private func errno(_ name: Substring) throws(FaultRuleMistake) -> Errno {
    guard let errno = errnoNames[String(name)] else {
      throw mistake("\"\(name)\"", "is not an error; write \(list(errnoNames.keys.sorted()))")
    }
    return errno
  }

  private func number(_ value: Substring, _ key: Substring) throws(FaultRuleMistake) -> UInt64 {
    guard let number = wholeNumber(value) else { throw mistake("\"\(value)\"", "is not a whole number") }
    return number
  }

  private func count(_ value: Substring, _ key: Substring) throws(FaultRuleMistake) -> UInt64 {
    guard let number = wholeNumber(value), number > 0 else {
      throw mistake("\"\(key)=\(value)\"", "is not a count; write 1 or more")
    }
    return number
  }

  private func bytes(_ value: Substring) throws(FaultRuleMistake) -> UInt64 {
    guard let bytes = byteCount(value) else {
      throw mistake("\"\(value)\"", "is not a size; write bytes, or a number with K, M, G or T")
    }
    return bytes
  }

  private func range(_ value: Substring) throws(FaultRuleMistake) -> Range<UInt64> {
    let ends = value.split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2 else {
      throw mistake("\"range=\(value)\"", "is not a range; write FROM-TO or FROM-, such as 1M-2M")
    }
    let lower = try bytes(ends[0])
    let upper = ends[1].isEmpty ? .max : try bytes(ends[1])
    guard lower < upper else {
      throw mistake("\"range=\(value)\"", "is empty; the byte behind the last one comes after the first")
    }
    return lower..<upper
  }

  /// `10%`, `0.1`.
  private func probability(_ value: Substring) throws(FaultRuleMistake) -> Double {
    let isPercent = value.last == "%"
    guard let decimal = decimal(isPercent ? value.dropLast() : value), case let share = decimal / (isPercent ? 100 : 1),
      share > 0, share <= 1
    else {
      throw mistake("\"probability=\(value)\"", "is not a share of calls; write 0.1 or 10%, at most 1 or 100%")
    }
    return share
  }

  /// `200ms`, `1.5s`, `50us`; without a unit seconds, as nbdkit's filters have it.
  private func time(_ value: Substring) throws(FaultRuleMistake) -> Duration {
    let digits = value.prefix { $0.isNumber || $0 == "." }
    let microseconds: [Substring: Double] = ["us": 1, "ms": 1000, "s": 1_000_000, "": 1_000_000]
    guard let unit = microseconds[value[digits.endIndex...]], let decimal = decimal(digits),
      case let total = decimal * unit, total >= 1, total <= 86_400e6
    else {
      throw mistake("\"delay=\(value)\"", "is not a time; write 50us, 200ms or 1.5s, at most a day")
    }
    return .microseconds(Int64(total))
  }
}

private func keyAndValue(_ part: Substring) -> (key: Substring, value: Substring?) {
  guard let equals = part.firstIndex(of: "=") else { return (part, nil) }
  return (part[..<equals], part[part.index(after: equals)...])
}

private func wholeNumber(_ text: Substring) -> UInt64? {
  text.allSatisfy({ $0.isASCII && $0.isNumber }) ? UInt64(text) : nil
}

private func decimal(_ text: Substring) -> Double? {
  text.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == ".") }) ? Double(text) : nil
}

/// A suffix is a power of 1024.
private func byteCount(_ text: Substring) -> UInt64? {
  let shifts: [Character: UInt64] = [
    "K": 10, "k": 10, "M": 20, "m": 20, "G": 30, "g": 30, "T": 40, "t": 40,
  ]
  let shift = text.last.flatMap { shifts[$0] }
  guard let number = wholeNumber(shift == nil ? text : text.dropLast()), !text.isEmpty else { return nil }
  let (bytes, isTooMuch) = number.multipliedReportingOverflow(by: 1 << (shift ?? 0))
  return isTooMuch ? nil : bytes
}

private func callKinds(_ names: Substring, of text: String) throws(FaultRuleMistake) -> Set<FileCall.Kind> {
  var kinds: Set<FileCall.Kind> = []
  for name in names.split(separator: "+", omittingEmptySubsequences: false) {
    guard let group = callGroups.first(where: { $0.name == name }) else {
      throw FaultRuleMistake(
        clause: "\"\(name)\" in \"\(text)\" is not a call; write \(list(callGroups.map(\.name)))")
    }
    kinds.formUnion(group.kinds)
  }
  return kinds
}

private func list(_ names: [String]) -> String {
  names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
}

/// What a rule may name: first by what clients ask for, then by system call.
private let callGroups: [(name: String, kinds: Set<FileCall.Kind>)] = [
  ("read", [.read]),
  ("write", [.write]),
  ("trim", [.punchHole, .discard]),
  ("zero", [.punchHole, .zeroRange, .allocate]),
  ("sync", [.sync]),
  ("status", [.seekData, .seekHole, .mapExtents]),
  ("cache", [.willNeed]),
  (
    "any",
    [.read, .write, .punchHole, .discard, .zeroRange, .allocate, .sync, .seekData, .seekHole, .mapExtents, .willNeed]
  ),
  ("punch", [.punchHole]),
  ("discard", [.discard]),
  ("zero-range", [.zeroRange]),
  ("allocate", [.allocate]),
  ("seek", [.seekData, .seekHole]),
  ("map", [.mapExtents]),
]

private let errnoNames: [String: Errno] = [
  "EACCES": .permissionDenied, "EAGAIN": .resourceTemporarilyUnavailable, "EBADF": .badFileDescriptor,
  "EBUSY": .resourceBusy, "EDQUOT": .diskQuotaExceeded, "EFBIG": .fileTooLarge, "EINTR": .interrupted,
  "EINVAL": .invalidArgument, "EIO": .ioError, "ENODEV": .operationNotSupportedByDevice, "ENOMEM": .noMemory,
  "ENOSPC": .noSpace, "ENXIO": .noSuchAddressOrDevice, "EOPNOTSUPP": .notSupported, "EOVERFLOW": .overflow,
  "EPERM": .notPermitted, "EROFS": .readOnlyFileSystem, "ESTALE": .staleNFSFileHandle, "ETIMEDOUT": .timedOut,
]
