// NBDProtocol
