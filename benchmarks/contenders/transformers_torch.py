"""Hugging Face transformers, on PyTorch, with a plain loop and PyTorch's fused Adam."""

import torch
from transformers import BertConfig
from transformers import BertForSequenceClassification
from transformers import BertForTokenClassification
from transformers import BertModel

from contenders.rows import CLASSES
from contenders.rows import batches
from contenders.rows import padded


class Transformers:
    """Padded to the longest of a batch (run_ner.py), or to one length (run_glue.py)."""

    def __init__(self, spec, rows):
        config = BertConfig(**spec['config'], num_labels=CLASSES[spec['task']])
        if spec['task'] == 'ner':
            self.model = BertForTokenClassification(config)
        else:
            self.model = BertForSequenceClassification(config)
            self.model.bert = BertModel(config, add_pooling_layer=False)
        self.model.train()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), spec['rate'], fused=True
        )
        self.spec, self.rows = spec, rows

    def _train(self, batch):
        ids, mask, labels = map(torch.from_numpy, batch)
        labels = labels.long()
        hidden = self.model.bert(ids, attention_mask=mask).last_hidden_state
        if labels.ndim == 1:
            hidden = hidden[:, 0]
        else:
            labels = labels.masked_fill(mask == 0, -100)
        scores = self.model.classifier(self.model.dropout(hidden))
        loss = torch.nn.functional.cross_entropy(
            scores.flatten(0, -2), labels.flatten()
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def step(self, rows):
        """Train on a batch of equally long texts; the loss."""
        return float(self._train(padded(rows, self.spec['length'])))

    def warm_up(self):
        """Compile for the shapes of the epochs to come."""
        self._train(padded(self.rows[: self.spec['batch_size']]))

    def epoch(self):
        """Train on all texts once."""
        width = self.spec['maxlen'] if self.spec['padding'] == 'fixed' else None
        for batch in batches(self.rows, self.spec['batch_size'], width):
            self._train(batch)
