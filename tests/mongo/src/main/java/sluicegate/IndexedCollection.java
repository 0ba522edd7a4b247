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
import java.util.Collection;
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
    private static final List<String> INDEXED = List.of(ID, "streamId", "changed", "sequenceAt");

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
        for (String field : INDEXED) {
            if (query.get(field) instanceof String name) {
                List<Integer> found = positions(indexes.get(field).subMap(name, true, name, true));
                return matchDocuments(query, found, orderBy, skip, limit, batchSize, fields);
            }
        }
        for (String field : INDEXED) {
            NavigableMap<Object, TreeSet<Integer>> index = indexes.get(field);
            Object bound = bound(field, query);
            boolean inOrder = ID.equals(getIdField()) && isOrderOf(field, orderBy);
            if (bound != null || (inOrder && field.equals(ID))) {
                List<Integer> found = positions(bound == null ? index : index.tailMap(bound, true));
                // In order already, so that a page is made of its own documents only.
                return matchDocuments(query, found, inOrder ? null : orderBy, skip, limit, batchSize, fields);
            }
        }
        return super.queryDocuments(query, orderBy, skip, limit, batchSize, fields);
    }

    /** What {@code field} is not below of in all that {@code query} finds; null if that may be anything. */
    private static Object bound(String field, Document query) {
        Object condition = query.get(field);
        if (condition instanceof Document bounds) {
            return bounds.getOrDefault("$gte", bounds.get("$gt"));
        }
        if (condition != null || !(query.get("$or") instanceof Collection<?> clauses)) {
            return condition instanceof Instant ? condition : null;
        }
        Object lowest = null;
        for (Object clause : clauses) {
            Object bound = clause instanceof Document document ? bound(field, document) : null;
            if (bound == null) {
                return null;
            }
            lowest = lowest == null || ValueComparator.asc().compare(bound, lowest) < 0 ? bound : lowest;
        }
        return lowest;
    }

    /** Whether that is the order of {@code field}, then of {@code _id}. */
    private static boolean isOrderOf(String field, Document orderBy) {
        Document order = new Document(field, 1);
        order.putIfAbsent(ID, 1);
        return order.equals(orderBy);
    }

    private List<Integer> positions(NavigableMap<Object, TreeSet<Integer>> index) {
        List<Integer> positions = new ArrayList<>();
        for (TreeSet<Integer> same : index.values()) {
            int first = positions.size();
            positions.addAll(same);
            positions.subList(first, positions.size()).sort((a, b) -> ValueComparator.asc().compare(id(a), id(b)));
        }
        return positions;
    }

    private Object id(Integer position) {
        return getDocument(position).get(ID);
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
