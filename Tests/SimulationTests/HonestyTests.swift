// What the simulation takes for an excuse, and what its clients put up with.

import BlockBackend
import NBDProtocol
import Testing

@testable import Simulation

@Suite struct CausesTests {
  private let call = FileCall(kind: .write, offset: 512, length: 512)

  @Test func onlyWhatFailedMayBeTold() {
    var causes = Causes()
    causes.add(.interrupted, in: call)
    #expect(causes.errors.isEmpty)
    causes.add(.noSpace, in: call)
    #expect(causes.errors == [.noSpace])
    causes.add(.ioError, in: FileCall(kind: .readCached, offset: 0, length: 512))
    #expect(causes.errors == [.noSpace], "the slow lane looks again")
    causes.add(.notSupported, in: FileCall(kind: .punchHole, offset: 0, length: 512))
    #expect(causes.errors == [.noSpace], "another call does it")
  }

  @Test func tryingAgainIsNoErrorAtOnce() {
    var causes = Causes()
    for _ in 0..<10 { causes.add(.resourceTemporarilyUnavailable, in: call) }
    #expect(causes.errors.isEmpty)
    causes.add(.resourceTemporarilyUnavailable, in: call)
    #expect(causes.errors == [.io])
  }
}

/// A client of a world in which nothing else happens.
private struct Stage {
  let world = World(seed: 1, options: SimulationOptions(), pool: PiecePool(), trace: nil)
  var client: SimulatedClient { world.clients[0] }

  /// Connected, past the handshake.
  init(structured: Bool) {
    repeat { client.connect(world.running.accept(client: 0, id: 1)) } while client.isStructured != structured
    client.phase = .ready
  }

  /// - Returns: the cookie.
  func send(_ command: Command, length: UInt32) -> UInt64 {
    let known = Set(client.outstanding.keys)
    world.records.append(
      Record(
        id: UInt64(world.records.count + 1), command: command, flags: [], offset: 0, length: length, connection: 1,
        invoked: world.tick()))
    client.send(world.records[world.records.count - 1], index: world.records.count - 1, payload: [])
    return client.outstanding.keys.first { !known.contains($0) } ?? 0
  }

  func chunk(_ type: UInt16, _ cookie: UInt64, isDone: Bool, _ payload: [UInt8] = []) {
    var bytes: [UInt8] = []
    bytes.appendNumber(0x668e_33ef as UInt32)
    bytes.appendNumber((isDone ? 1 : 0) as UInt16)
    bytes.appendNumber(type)
    bytes.appendNumber(cookie)
    bytes.appendNumber(UInt32(payload.count))
    client.receive((bytes + payload)[...])
  }

  func simpleReply(_ cookie: UInt64, error: UInt32) {
    var bytes: [UInt8] = []
    bytes.appendNumber(0x6744_6698 as UInt32)
    bytes.appendNumber(error)
    bytes.appendNumber(cookie)
    client.receive(bytes[...])
  }

  /// Something beneath the request failed.
  func fail(_ cookie: UInt64) {
    guard let index = client.outstanding[cookie] else { return }
    world.causes[index, default: Causes()].add(.ioError, in: FileCall(kind: .write, offset: 0, length: 512))
  }
}

@Suite struct ClientTests {
  private let none: UInt16 = 0
  private let error: UInt16 = 1 << 15 | 1
  private let ioError: [UInt8] = [0, 0, 0, 5, 0, 0]

  @Test func aChunkThatWasNotAgreedOnIsNoticed() {
    let stage = Stage(structured: false)
    stage.chunk(none, stage.send(.flush, length: 0), isDone: true)
    #expect(stage.world.finding?.rule == "reply")
  }

  @Test func whatFollowsAnErrorChunkIsNoSuccess() {
    let stage = Stage(structured: true)
    let cookie = stage.send(.trim, length: 512)
    stage.fail(cookie)
    stage.chunk(error, cookie, isDone: false, ioError)
    stage.chunk(none, cookie, isDone: true)
    #expect(stage.world.finding == nil)
    #expect(stage.world.records[0].error == .io)
  }

  @Test func aSecondErrorChunkIsNoticed() {
    let stage = Stage(structured: true)
    let cookie = stage.send(.trim, length: 512)
    stage.fail(cookie)
    stage.chunk(error, cookie, isDone: false, ioError)
    stage.chunk(error, cookie, isDone: true, ioError)
    #expect(stage.world.finding?.rule == "reply")
  }

  @Test func theErrorOfAnotherRequestIsNoExcuse() {
    let stage = Stage(structured: false)
    let (one, other) = (stage.send(.trim, length: 512), stage.send(.trim, length: 512))
    stage.fail(one)
    stage.simpleReply(one, error: 5)
    #expect(stage.world.finding == nil)
    stage.simpleReply(other, error: 5)
    #expect(stage.world.finding?.rule == "errors")
  }

  @Test func anErrorOfAnotherKindIsNoExcuse() {
    let stage = Stage(structured: false)
    let cookie = stage.send(.trim, length: 512)
    stage.fail(cookie)
    stage.simpleReply(cookie, error: 28)
    #expect(stage.world.finding?.rule == "errors")
  }
}
