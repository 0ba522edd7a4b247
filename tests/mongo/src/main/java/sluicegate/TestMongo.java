package sluicegate;

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.backend.memory.MemoryCollection;
import de.bwaldvogel.mongo.backend.memory.MemoryDatabase;
import de.bwaldvogel.mongo.bson.Document;
import io.netty.channel.Channel;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * An in-memory server that speaks MongoDB's wire protocol, for the end-to-end tests.
 *
 * <p>{@code TestMongo ADDRESS:PORT [USER PASSWORD]} prints {@code ready ADDRESS:PORT} once it accepts connections
 * and ends when its standard input does, so that it never outlives the test that started it, however that test
 * ended. With a user it serves nobody else; a line on its standard input is that user's new password.
 */
public final class TestMongo {

    /** What it claims to be: by itself it says wire version 7, which current drivers refuse. */
    private static final MongoVersion MONGODB_4_4 = new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    };

    /**
     * Knows {@code hello}, which MongoDB has had since 4.4.2 and the library knows only by its older name, and has
     * collections with indexes.
     */
    static class Backend extends MemoryBackend {
        @Override
        public MemoryDatabase openOrCreateDatabase(String name) {
            return new MemoryDatabase(name, getCursorRegistry()) {
                @Override
                protected MemoryCollection openOrCreateCollection(String collection, CollectionOptions options) {
                    return new IndexedCollection(this, collection, options, cursorRegistry);
                }
            };
        }

        @Override
        public Document handleCommand(Channel channel, String database, String command, Document query) {
            if (!command.equals("hello")) {
                return super.handleCommand(channel, database, command, query);
            }
            Document answer = super.handleCommand(channel, database, "isMaster", query);
            answer.put("isWritablePrimary", true);
            return answer;
        }
    }

    private TestMongo() {}

    public static void main(String[] args) throws IOException {
        if (args.length != 1 && args.length != 3) {
            refuse("usage: TestMongo ADDRESS:PORT [USER PASSWORD]");
        }
        InetSocketAddress address = parse(args[0]);
        LoginBackend guarded = args.length == 3 ? new LoginBackend(args[1], args[2]) : null;
        Backend backend = guarded == null ? new Backend() : guarded;
        MongoServer server = new MongoServer(backend.version(MONGODB_4_4));
        try {
            server.bind(address);
        } catch (Exception cannotBind) {
            // Netty throws the checked BindException unannounced, and its threads would keep the process alive.
            refuse("cannot listen on " + args[0] + ": " + cannotBind.getMessage());
        }
        System.out.println("ready " + args[0]);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (guarded != null) {
                guarded.setPassword(line);
            }
        }
        server.shutdownNow();
        // Netty's threads take seconds to notice; nothing here outlives the process anyway.
        Runtime.getRuntime().halt(0);
    }

    private static InetSocketAddress parse(String addressAndPort) {
        int colon = addressAndPort.lastIndexOf(':');
        if (colon < 1) {
            refuse("not an ADDRESS:PORT: " + addressAndPort);
        }
        try {
            int port = Integer.parseInt(addressAndPort.substring(colon + 1));
            return new InetSocketAddress(addressAndPort.substring(0, colon), port);
        } catch (IllegalArgumentException notAPort) {
            refuse("not an ADDRESS:PORT: " + addressAndPort);
            throw notAPort;
        }
    }

    private static void refuse(String why) {
        System.err.println(why);
        Runtime.getRuntime().halt(2);
    }
}
