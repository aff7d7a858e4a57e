// A client of the kind that speaks Socket.IO for management and server-sent
// events for messages, as its authors' document has it, piece by piece, in the
// order of the document.  A page runs it as a classic script; host and tokens
// are put in by the test.  One thing could never work as it stood, and is
// marked: a name that went out of scope.

// ---- WebSocket connection

const socket = io('http://localhost:3000/chats', {
  auth: {
    token: 'your-jwt-token', // Optional for anonymous users
  },
});

// Listen to usage info
socket.on('usage_info', (data) => {
  console.log('Usage:', data);
});

// List chats
socket.emit('list_chats', { page: 0, limit: 20 });
socket.on('chats_list', (data) => {
  console.log('Chats:', data);
});

// ---- SSE for message streaming

async function sendMessage(chatId, model, content) {
  const response = await fetch('/api/v1/messages/send', {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Authorization: 'Bearer your-token', // Optional
      'x-anon-id': 'anonymous-id', // For anonymous users
    },
    body: JSON.stringify({
      chat_id: chatId,
      model: model,
      content: content,
      temperature: 0.7,
    }),
  });

  const reader = response.body.getReader();
  const decoder = new TextDecoder();

  let event; // was a const within the first `if'
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;

    const chunk = decoder.decode(value);
    const lines = chunk.split('\n');

    for (const line of lines) {
      if (line.startsWith('event: ')) {
        event = line.slice(7);
      } else if (line.startsWith('data: ')) {
        const data = JSON.parse(line.slice(6));
        handleSSEEvent(event, data);
      }
    }
  }
}

function handleSSEEvent(event, data) {
  switch (event) {
    case 'assistant_typing':
      console.log('Assistant is typing...');
      break;
    case 'assistant_delta':
      console.log('Delta:', data.delta);
      // Append delta to UI
      break;
    case 'assistant_complete':
      console.log('Message completed:', data);
      break;
    case 'assistant_error':
      console.error('Error:', data.error);
      break;
    case 'usage_info':
      console.log('Usage updated:', data);
      break;
  }
}

// ---- better SSE implementation with EventSource

function sendMessageWithEventSource(chatId, model, content) {
  // Send the message first
  fetch('/api/v1/messages/send', {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Authorization: 'Bearer your-token',
    },
    body: JSON.stringify({ chat_id: chatId, model, content }),
  }).then((response) => {
    // Create EventSource for streaming response
    const eventSource = new EventSource(`/api/v1/messages/send`, {
      headers: {
        Authorization: 'Bearer your-token',
      },
    });

    eventSource.addEventListener('assistant_delta', (event) => {
      const data = JSON.parse(event.data);
      appendDeltaToUI(data.delta);
    });

    eventSource.addEventListener('assistant_complete', (event) => {
      const data = JSON.parse(event.data);
      finalizeMessage(data);
      eventSource.close();
    });

    eventSource.addEventListener('assistant_error', (event) => {
      const data = JSON.parse(event.data);
      showError(data.error);
      eventSource.close();
    });
  });
}

// ---- testing SSE

const eventSource = new EventSource('/api/v1/messages/test-sse');

eventSource.addEventListener('test_message', (event) => {
  const data = JSON.parse(event.data);
  console.log(`Test ${data.counter}: ${data.message}`);
});

eventSource.addEventListener('test_complete', (event) => {
  const data = JSON.parse(event.data);
  console.log('Test completed:', data.message);
  eventSource.close();
});

// ---- error handling

socket.on('assistant_error', (data) => {
  switch (data.code) {
    case 'ANON_LIMIT_REACHED':
      showLoginPrompt();
      break;
    case 'INSUFFICIENT_BALANCE':
      showTopUpPrompt();
      break;
    default:
      showGenericError(data.error);
  }
});

eventSource.onerror = (error) => {
  console.error('SSE connection error:', error);
  // Implement reconnection logic
  setTimeout(() => {
    reconnectSSE();
  }, 5000);
};
