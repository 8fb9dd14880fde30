// What a client was told is what is there, also after the server was killed.

import DaemonHarness
import Glibc
import Locking
import NBDClient
import Testing

/// What may stand in a block: what was acknowledged last, or what was under way when the server died.
private struct BlockHistory {
  var acknowledged: UInt64 = 0
  var sent: UInt64 = 0
}

private let blockBytes = 4096
private let blocksPerClient = 256

private func pattern(_ version: UInt64) -> [UInt8] {
  [UInt8](unsafeUninitializedCapacity: blockBytes) { target, count in
    let raw = UnsafeMutableRawBufferPointer(target)
    for at in stride(from: 0, to: blockBytes, by: 8) { raw.storeBytes(of: version, toByteOffset: at, as: UInt64.self) }
    count = blockBytes
  }
}

/// Overwrites blocks of its own part until the connection breaks, 8 requests at a time; one in four zeroes instead. `count` is
/// told how many were acknowledged.
private func loadUntilItBreaks(
  _ socket: String, part: Int, _ count: (_ acknowledged: UInt64) -> Void
) -> [BlockHistory] {
  var history = [BlockHistory](repeating: BlockHistory(), count: blocksPerClient)
  var random = Random(seed: UInt64(part) + 1)
  var version: UInt64 = 0
  do {
    let client = try RawClient.connect(unix: socket)
    while true {
      var inFlight: [UInt64: Int] = [:]
      let first = Int(random.next() % UInt64(blocksPerClient - 8))
      for block in first..<first + 8 {
        version += 1
        let offset = UInt64((part * blocksPerClient + block) * blockBytes)
        if random.next() % 4 == 0 {
          history[block].sent = 0
          try client.submit(Cmd.writeZeroes, offset: offset, length: UInt32(blockBytes), cookie: version)
        } else {
          history[block].sent = version
          try client.submit(
            Cmd.write, offset: offset, length: UInt32(blockBytes), payload: pattern(version), cookie: version)
        }
        inFlight[version] = block
      }
      while !inFlight.isEmpty {
        let reply = try client.receiveReply()
        let block = inFlight.removeValue(forKey: reply.cookie)!
        if reply.isSuccess { history[block].acknowledged = history[block].sent }
      }
      count(version)
    }
  } catch {}
  return history
}

extension Integration {
  @Suite struct Durability {
    @Test func everyAcknowledgedOperationSurvivesSIGKILL() throws {
      try withScratch { scratch in
        let image = try scratch.makeImage(sizeBytes: 64 << 20)
        for _ in 0..<3 {
          let daemon = try Daemon.start(in: scratch, [image])
          let socket = daemon.socket
          let histories = Locked<[Int: [BlockHistory]]>([:])
          let pid = daemon.pid
          let acknowledged = Locked<[UInt64]>([0, 0, 0, 0])
          try onThreads(5) { part in
            guard part < 4 else {
              // Not before there is load from all, however busy the machine is.
              let hasLoad = eventually(seconds: 20) { acknowledged.withLock { $0.allSatisfy { $0 > 800 } } }
              usleep(100_000)
              kill(pid, SIGKILL)
              if !hasLoad { throw HarnessError("too little was acknowledged: \(acknowledged.withLock { $0 })") }
              return
            }
            let history = loadUntilItBreaks(socket, part: part) { count in acknowledged.withLock { $0[part] = count } }
            histories.withLock { $0[part] = history }
          }
          #expect(daemon.child.wait(seconds: 5) == .signaled(SIGKILL))
          let again = try Daemon.start(in: scratch, [image])
          let client = try again.client()
          for (part, history) in histories.withLock({ $0 }) {
            for (block, entry) in history.enumerated() {
              let data = try client.read(UInt64((part * blocksPerClient + block) * blockBytes), UInt32(blockBytes)).data
              let isRight = same(data, pattern(entry.acknowledged)) || same(data, pattern(entry.sent))
              #expect(
                isRight, "block \(block) of client \(part): acknowledged \(entry.acknowledged), sent \(entry.sent)")
            }
          }
          // The next round starts from zeroes, as its clients assume.
          #expect(try client.call(Cmd.writeZeroes, flags: CmdFlag.fua, offset: 0, length: 64 << 20).isSuccess)
          try again.stop()
        }
      }
    }
  }
}
