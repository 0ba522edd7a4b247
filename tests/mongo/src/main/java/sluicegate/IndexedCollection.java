package sluicegate;

import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.ValueComparator;
import de.bwaldvogel.mongo.backend.memory.MemoryCollection;
import de.bwaldvogel.mongo.bson.Document;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * A collection that finds by what Sluicegate has indexes on. By itself the library uses an index only for a query by
 * its fields and no other, so that an update guarded by an epoch goes through all documents: with a hundred thousand
 * streams, that is what a measurement would measure.
 */
final class IndexedCollection extends MemoryCollection {

    private static final String ID = "_id";
    /** Fields that documents are looked up by, or by a value that they are not below of. */
    private static final List<String> INDEXED = List.of(ID, "changed", "sequenceAt");

    /** For each of these fields the positions of the documents with a value, in its order. */
    private final Map<String, NavigableMap<Object, TreeSet<Integer>>> indexes = new TreeMap<>();

    IndexedCollection(
            MongoDatabase database, String name, CollectionOptions options, CursorRegistry cursorRegistry) {
        super(database, name, options, cursorRegistry);
        INDEXED.forEach(field -> indexes.put(field, new TreeMap<>(ValueComparator.asc())));
    }

    @Override
    protected QueryResult queryDocuments(
            Document query, Document orderBy, int skip, int limit, int batchSize, Document fields) {
        NavigableMap<Object, TreeSet<Integer>> ids = indexes.get(ID);
        Object id = query.get(ID);
        if (id instanceof String) {
            List<Integer> found = positions(ids.subMap(id, true, id, true));
            return matchDocuments(query, found, orderBy, skip, limit, batchSize, fields);
        }
        if (ID.equals(getIdField()) && orderBy != null && orderBy.equals(new Document(ID, 1))) {
            // In order already, so that a page is made of its own documents only.
            List<Integer> found = positions(tail(ids, id));
            return matchDocuments(query, found, null, skip, limit, batchSize, fields);
        }
        for (String field : INDEXED) {
            NavigableMap<Object, TreeSet<Integer>> index = indexes.get(field);
            NavigableMap<Object, TreeSet<Integer>> tail = tail(index, query.get(field));
            if (tail != index) {
                return matchDocuments(query, positions(tail), orderBy, skip, limit, batchSize, fields);
            }
        }
        return super.queryDocuments(query, orderBy, skip, limit, batchSize, fields);
    }

    /** What of {@code index} is not below the bound that {@code condition} has; all of it if that has none. */
    private static NavigableMap<Object, TreeSet<Integer>> tail(
            NavigableMap<Object, TreeSet<Integer>> index, Object condition) {
        Document bounds = condition instanceof Document document ? document : new Document();
        Object bound = bounds.getOrDefault("$gte", bounds.get("$gt"));
        return bound == null ? index : index.tailMap(bound, true);
    }

    private static List<Integer> positions(NavigableMap<Object, TreeSet<Integer>> index) {
        List<Integer> positions = new ArrayList<>();
        index.values().forEach(positions::addAll);
        return positions;
    }

    @Override
    protected Integer addDocumentInternal(Document document) {
        keepMilliseconds(document);
        Integer position = super.addDocumentInternal(document);
        INDEXED.forEach(field -> add(field, document.get(field), position));
        return position;
    }

    @Override
    protected void removeDocument(Integer position) {
        Document document = getDocument(position);
        INDEXED.forEach(field -> remove(field, document.get(field), position));
        super.removeDocument(position);
    }

    @Override
    protected void handleUpdate(Integer position, Document oldDocument, Document newDocument) {
        keepMilliseconds(newDocument);
        super.handleUpdate(position, oldDocument, newDocument);
        for (String field : INDEXED) {
            remove(field, oldDocument.get(field), position);
            add(field, newDocument.get(field), position);
        }
    }

    /** Keeps times as MongoDB does; the library would keep them finer than it tells them. */
    private static void keepMilliseconds(Document document) {
        for (Map.Entry<String, Object> entry : document.entrySet()) {
            if (entry.getValue() instanceof Instant time) {
                entry.setValue(time.truncatedTo(ChronoUnit.MILLIS));
            }
        }
    }

    private void add(String field, Object value, Integer position) {
        if (value != null) {
            indexes.get(field).computeIfAbsent(value, none -> new TreeSet<>()).add(position);
        }
    }

    private void remove(String field, Object value, Integer position) {
        if (value != null) {
            indexes.get(field).computeIfPresent(value, (same, positions) -> {
                positions.remove(position);
                return positions.isEmpty() ? null : positions;
            });
        }
    }
}
