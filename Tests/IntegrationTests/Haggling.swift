// What the tests of the handshake say again and again.

import DaemonHarness
import NBDClient
import Testing

/// A greeted connection that is haggling about options.
func haggling(
  _ daemon: Daemon, flags: UInt32 = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes
) throws -> RawClient {
  let client = RawClient(try RawSocket(unix: daemon.socket, timeoutSeconds: 15))
  try client.greet(flags: flags)
  return client
}

/// The connection still answers options in step.
func expectStillHaggling(_ client: RawClient, _ location: SourceLocation = #_sourceLocation) throws {
  let reply = try client.finalReply(Option.info, infoOptionData(""))
  #expect(reply.type == OptionReplyType.ack, sourceLocation: location)
}

/// The server closes without another byte.
func expectClosed(_ client: RawClient, _ location: SourceLocation = #_sourceLocation) throws {
  #expect(try client.socket.receiveUntilEnd().isEmpty, sourceLocation: location)
}
