// One fault in the n-th call of a kind, for every n, while a client works through a script: no reply may be a lie.

import BlockBackend
import Foundation
import Locking
import NBDClient
import SystemPackage

/// What one call meets.
enum MatrixFault: String, CaseIterable, Sendable {
  case ioError, noSpace, quota, interrupted, again, short, zero

  /// Nil where there is no such thing: a sync has no count, a question no half answer.
  func answer(to call: FileCall) -> FileCallAnswer? {
    switch self {
    case .ioError: .fail(.ioError)
    case .noSpace: .fail(.noSpace)
    case .quota: .fail(.diskQuotaExceeded)
    case .interrupted: .fail(.interrupted)
    case .again: .fail(.resourceTemporarilyUnavailable)
    // Whole blocks, as a kernel does them; less than a block as it is.
    case .short:
      call.length < 2 || call.kind == .mapExtents
        ? nil : .performOnly(bytes: call.length > 8192 ? 4096 : call.length / 2)
    case .zero: call.kind == .sync ? nil : .pretend(0)
    }
  }

  /// The error that one request must end with when one of its calls meets this; nil: all must succeed all the same.
  func error(in kind: FileCall.Kind) -> UInt32? {
    switch kind {
    // Attempts, advice and questions that others answer as well.
    case .readCached, .countCached, .willNeed, .mapExtents, .seekHole, .pause: nil
    case .seekData:
      switch self {
      case .ioError, .again: NBDErrno.io
      case .noSpace, .quota: NBDErrno.noSpace
      case .interrupted, .short, .zero: nil
      }
    case .sync:
      switch self {
      case .ioError, .noSpace, .quota, .again: NBDErrno.io
      case .interrupted, .short, .zero: nil
      }
    case .read, .write, .punchHole, .zeroRange, .allocate, .discard:
      switch self {
      case .ioError, .zero: NBDErrno.io
      case .noSpace, .quota: NBDErrno.noSpace
      case .interrupted, .again, .short: nil
      }
    }
  }
}

/// The hook of an image: hits one call, and refuses some kinds always.
final class OneFault: Sendable {
  private struct State {
    var refused: Set<FileCall.Kind> = []
    var kind: FileCall.Kind?
    var fault = MatrixFault.ioError
    /// Calls of the kind until the one that is hit.
    var rest = 0
    var wasHit = false
  }
  private let state = Locked(State())

  init(refusing kinds: [FileCall.Kind]) { state.withLock { $0.refused = Set(kinds) } }

  var hook: @Sendable (FileCall) -> FileCallAnswer {
    { call in
      self.state.withLock { state in
        if call.kind == state.kind, let answer = state.fault.answer(to: call) {
          if state.rest == 0 && !state.wasHit {
            state.wasHit = true
            return answer
          }
          state.rest -= 1
        }
        // Syncs are slow, and only of interest when they are hit.
        if call.kind == .sync && state.kind != .sync { return .pretend(0) }
        return state.refused.contains(call.kind) ? .fail(.notSupported) : .perform
      }
    }
  }

  /// The `nth` call of `kind` from now on, 1 for the next one.
  func arm(_ fault: MatrixFault, _ kind: FileCall.Kind, nth: Int) {
    state.withLock { ($0.kind, $0.fault, $0.rest, $0.wasHit) = (kind, fault, nth - 1, false) }
  }

  /// Nothing is hit any more.
  /// - Returns: whether something was.
  func disarm() -> Bool {
    state.withLock { state in
      state.kind = nil
      return state.wasHit
    }
  }
}

/// One request of the script.
struct MatrixStep {
  var command: UInt16
  var flags: UInt16 = 0
  var range: Range<Int>

  static let imageBytes = (288 << 10) + 777

  /// Every command, long and short, inline and not, with every flag that matters to a backend.
  static let script: [MatrixStep] = [
    MatrixStep(command: Cmd.write, range: 4096..<12_288),
    MatrixStep(command: Cmd.write, flags: CmdFlag.fua, range: 20_001..<25_001),
    MatrixStep(command: Cmd.read, range: 0..<16_384),
    MatrixStep(command: Cmd.writeZeroes, range: 5000..<15_000),
    MatrixStep(command: Cmd.writeZeroes, flags: CmdFlag.noHole, range: 40_960..<49_152),
    MatrixStep(command: Cmd.writeZeroes, flags: CmdFlag.fastZero, range: 49_152..<57_344),
    MatrixStep(command: Cmd.trim, range: 65_536..<81_920),
    MatrixStep(command: Cmd.flush, range: 0..<0),
    MatrixStep(command: Cmd.blockStatus, range: 0..<imageBytes),
    MatrixStep(command: Cmd.cache, range: 0..<200_000),
    MatrixStep(command: Cmd.read, range: 0..<131_072),
    MatrixStep(command: Cmd.trim, flags: CmdFlag.fua, range: 131_072..<230_000),
    MatrixStep(command: Cmd.write, range: 1000..<270_001),
    MatrixStep(command: Cmd.writeZeroes, flags: CmdFlag.fua, range: 100_000..<250_000),
    MatrixStep(command: Cmd.read, flags: CmdFlag.dontFragment, range: 1..<imageBytes),
    MatrixStep(command: Cmd.read, range: 0..<imageBytes),
    MatrixStep(command: Cmd.flush, range: 0..<0),
  ]

  var changesData: Bool { [Cmd.write, Cmd.trim, Cmd.writeZeroes].contains(command) }
  var isSync: Bool { command == Cmd.flush || flags & CmdFlag.fua != 0 }
}

/// A client that works through the script, what it must find, and where the truth can be read.
final class MatrixClient {
  private let client: RawClient
  private let truth: FileHandle
  private var content: [UInt8]
  private var fill: UInt8 = 0
  private(set) var errors: [UInt32] = []
  /// What was wrong, a sentence each.
  private(set) var lies: [String] = []
  private var isLatched = false

  /// - Parameter path: the image, to be read behind the server's back.
  init(_ client: RawClient, truth path: String) throws {
    self.client = client
    truth = try FileHandle(forReadingFrom: URL(filePath: path))
    content = [UInt8](repeating: 0, count: MatrixStep.imageBytes)
    let reply = try client.write(0, try pattern(0..<content.count))
    guard reply.isSuccess else { throw ClientError.ruleBroken("the first write succeeds") }
  }

  private func pattern(_ range: Range<Int>) throws -> [UInt8] {
    fill = fill == 255 ? 1 : fill + 1
    let bytes = [UInt8](repeating: fill, count: range.count)
    content.replaceSubrange(range, with: bytes)
    return bytes
  }

  /// Every request of the script; notes errors and lies.
  func work() throws {
    (errors, lies) = ([], [])
    for step in MatrixStep.script { try run(step) }
    if !same(stored(0..<content.count), content) { lies.append("the image is not what the replies said") }
  }

  private func run(_ step: MatrixStep) throws {
    let before = Array(content[step.range])
    let payload = step.command == Cmd.write ? try pattern(step.range) : nil
    let after = payload ?? [UInt8](repeating: 0, count: step.range.count)
    let reply = try client.call(
      step.command, flags: step.flags, offset: UInt64(step.range.lowerBound), length: UInt32(step.range.count),
      payload: payload)
    // Not an error: FAST_ZERO asks whether it is fast.
    let isRefusal = reply.error == NBDErrno.notSupported && step.flags & CmdFlag.fastZero != 0
    if !reply.isSuccess && !isRefusal { errors.append(reply.error) }
    if step.isSync && isLatched && reply.isSuccess { lies.append("\(step) succeeded after a failed sync") }
    if step.changesData {
      // After an error, and after TRIM, each byte is old or new; else all are new.
      let found = stored(step.range)
      let mayBeOld = !reply.isSuccess || step.command == Cmd.trim
      let isRight =
        isRefusal ? same(found, before) : same(found, after) || mayBeOld && isMixture(found, before, after)
      if !isRight { lies.append("\(step) did something else") }
      content.replaceSubrange(step.range, with: found)
    } else if reply.isSuccess {
      if step.command == Cmd.read && !same(reply.data, before) { lies.append("\(step) returned something else") }
      if step.command == Cmd.blockStatus { check(reply) }
    }
  }

  /// A sync has failed: none may succeed any more.
  func noteFailedSync() { isLatched = true }

  private func stored(_ range: Range<Int>) -> [UInt8] {
    try? truth.seek(toOffset: UInt64(range.lowerBound))
    return [UInt8]((try? truth.read(upToCount: range.count)) ?? Data())
  }

  private func isMixture(_ found: [UInt8], _ before: [UInt8], _ after: [UInt8]) -> Bool {
    guard found.count == before.count else { return false }
    return stride(from: 0, to: found.count, by: 512).allSatisfy { start in
      let part = start..<min(start + 512, found.count)
      return same(found[part], after[part]) || same(found[part], before[part])
        || part.allSatisfy { found[$0] == before[$0] || found[$0] == after[$0] }
    }
  }

  /// What is called a hole or zero is zero.
  private func check(_ reply: Reply) {
    var offset = 0
    for extent in reply.extents["base:allocation"] ?? [] {
      let end = min(content.count, offset + Int(extent.lengthBytes))
      if extent.status != 0, !same(content[offset..<end], [UInt8](repeating: 0, count: end - offset)[...]) {
        lies.append("\(offset)..<\(end) holds data and is said to be \(extent.status)")
      }
      offset = end
    }
    if offset == 0 { lies.append("block status said nothing") }
  }

  /// DISC; the connection must have been sound to the end.
  func leave() throws { try client.disconnect() }

  func isAlive() throws -> Bool {
    let reply = try client.read(0, 512)
    return reply.isSuccess && same(reply.data[...], content[..<512])
  }
}

/// memcmp: comparing element by element takes most of the time in a debug build.
private func same(_ a: ArraySlice<UInt8>, _ b: ArraySlice<UInt8>) -> Bool {
  unsafe a.withUnsafeBytes { a in
    unsafe b.withUnsafeBytes { b in
      unsafe a.count == b.count && (a.isEmpty || memcmp(a.baseAddress!, b.baseAddress!, a.count) == 0)
    }
  }
}

private func same(_ a: [UInt8], _ b: [UInt8]) -> Bool { same(a[...], b[...]) }
