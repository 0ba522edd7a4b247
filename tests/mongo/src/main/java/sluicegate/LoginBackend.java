package sluicegate;

import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import io.netty.channel.Channel;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Serves nobody who has not logged in as one user, as a {@code mongod --auth} does. */
final class LoginBackend extends TestMongo.Backend {

    private static final Set<String> BEFORE_LOGIN = Set.of("hello", "isMaster", "ismaster", "buildInfo", "ping");
    private static final String MECHANISM = "SCRAM-SHA-256";
    private static final int UNAUTHORIZED = 13;
    private static final int AUTHENTICATION_FAILED = 18;

    private final String user;
    private final Map<Channel, Scram> logins = new ConcurrentHashMap<>();
    private volatile String password;

    LoginBackend(String user, String password) {
        this.user = user;
        this.password = password;
    }

    /** Everybody has to log in anew, with this one. */
    void setPassword(String password) {
        this.password = password;
        logins.keySet().forEach(Channel::close);
    }

    @Override
    public Document handleCommand(Channel channel, String database, String command, Document query) {
        if (command.equals("saslStart") || command.equals("saslContinue")) {
            return login(channel, command, query);
        }
        Scram login = logins.get(channel);
        if (!BEFORE_LOGIN.contains(command) && (login == null || !login.isComplete())) {
            throw new MongoServerError(UNAUTHORIZED, "Unauthorized", "command " + command + " requires authentication");
        }
        Document answer = super.handleCommand(channel, database, command, query);
        if (query.containsKey("saslSupportedMechs")) {
            answer.put("saslSupportedMechs", List.of(MECHANISM));
        }
        return answer;
    }

    @Override
    public void handleClose(Channel channel) {
        logins.remove(channel);
        super.handleClose(channel);
    }

    private Document login(Channel channel, String command, Document query) {
        try {
            String message = new String(((BinData) query.get("payload")).getData(), StandardCharsets.UTF_8);
            String answer;
            if (command.equals("saslContinue")) {
                answer = logins.get(channel).last(message);
            } else if (MECHANISM.equals(query.get("mechanism"))) {
                Scram login = new Scram(user, password);
                logins.put(channel, login);
                answer = login.first(message);
            } else {
                throw new Scram.Refused();
            }
            Document reply = new Document("conversationId", 1).append("done", logins.get(channel).isComplete());
            return reply.append("payload", new BinData(answer.getBytes(StandardCharsets.UTF_8))).append("ok", 1.0);
        } catch (Scram.Refused | GeneralSecurityException | RuntimeException refused) {
            logins.remove(channel);
            throw new MongoServerError(AUTHENTICATION_FAILED, "AuthenticationFailed", "Authentication failed.");
        }
    }
}
