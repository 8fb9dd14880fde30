// The shortest way through everything: if this fails, look here first.

import DaemonHarness
import NBDClient
import Testing

extension Integration {
  @Suite struct Basics {
    @Test func whatIsWrittenIsReadBack() throws {
      try withDaemon { daemon, image, _ in
        let client = try daemon.client()
        #expect(client.export.sizeBytes == 64 << 20)
        var random = Random(seed: 1)
        let data = random.bytes(100_000)
        #expect(try client.write(12_345, data).isSuccess)
        try expectSame(client.read(12_345, 100_000).data, data)
        #expect(try client.call(Cmd.flush).isSuccess)
        try client.disconnect()
      }
    }
  }
}
